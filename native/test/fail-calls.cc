// A host whose disk fails: LD_PRELOAD=loopbox-fail.so has calls fail as the rules say (fail-rules.h), in place of being
// carried out. Kinds: read, write, sync, punch, length, create, link, rename (the new name counts), unlink.

#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

#include "fail-rules.h"
#include "hidden-calls.h"

#define FAILING extern "C" __attribute__((visibility("default")))

/** Ends the call where it has to fail. */
#define FAIL(failure) \
  if (int error_ = failure) return errno = error_, -1

namespace {

uint64_t Position(int fd) {
  int error = errno;
  off_t position = lseek(fd, 0, SEEK_CUR);
  errno = error;
  return position < 0 ? 0 : static_cast<uint64_t>(position);
}

uint64_t LengthOf(const iovec* parts, int count) {
  uint64_t length = 0;
  for (int i = 0; i < count; i++) length += parts[i].iov_len;
  return length;
}

int FailureOfOpen(int directory, const char* path, int flags) {
  bool is_nameless = (flags & O_TMPFILE) == O_TMPFILE;
  if (!is_nameless && !(flags & O_CREAT)) return 0;
  return FailureOf("create", AbsolutePath(directory, path));
}

}  // namespace

FAILING ssize_t pread(int fd, void* data, size_t length, off_t offset) {
  FAIL(FailureOfFile("read", fd, static_cast<uint64_t>(offset), length));
  return HIDDEN(pread)(fd, data, length, offset);
}
FAILING ssize_t pread64(int fd, void* data, size_t length, off_t offset) {
  return pread(fd, data, length, offset);
}
FAILING ssize_t read(int fd, void* data, size_t length) {
  if (!IsFile(fd)) return syscall(SYS_read, fd, data, length);
  FAIL(FailureOfFile("read", fd, Position(fd), length));
  return HIDDEN(read)(fd, data, length);
}
FAILING ssize_t preadv(int fd, const iovec* parts, int count, off_t offset) {
  FAIL(FailureOfFile("read", fd, static_cast<uint64_t>(offset), LengthOf(parts, count)));
  return HIDDEN(preadv)(fd, parts, count, offset);
}
FAILING ssize_t preadv64(int fd, const iovec* parts, int count, off_t offset) {
  return preadv(fd, parts, count, offset);
}

FAILING ssize_t pwrite(int fd, const void* data, size_t length, off_t offset) {
  FAIL(FailureOfFile("write", fd, static_cast<uint64_t>(offset), length));
  return HIDDEN(pwrite)(fd, data, length, offset);
}
FAILING ssize_t pwrite64(int fd, const void* data, size_t length, off_t offset) {
  return pwrite(fd, data, length, offset);
}
FAILING ssize_t write(int fd, const void* data, size_t length) {
  if (!IsFile(fd)) return syscall(SYS_write, fd, data, length);
  FAIL(FailureOfFile("write", fd, Position(fd), length));
  return HIDDEN(write)(fd, data, length);
}
FAILING ssize_t pwritev(int fd, const iovec* parts, int count, off_t offset) {
  FAIL(FailureOfFile("write", fd, static_cast<uint64_t>(offset), LengthOf(parts, count)));
  return HIDDEN(pwritev)(fd, parts, count, offset);
}
FAILING ssize_t pwritev64(int fd, const iovec* parts, int count, off_t offset) {
  return pwritev(fd, parts, count, offset);
}
FAILING ssize_t writev(int fd, const iovec* parts, int count) {
  FAIL(FailureOfFile("write", fd, Position(fd), LengthOf(parts, count)));
  return HIDDEN(writev)(fd, parts, count);
}
FAILING ssize_t copy_file_range(int from, off_t* from_offset, int to, off_t* to_offset, size_t length, unsigned flags) {
  FAIL(FailureOfFile("read", from, static_cast<uint64_t>(from_offset ? *from_offset : 0), length));
  FAIL(FailureOfFile("write", to, static_cast<uint64_t>(to_offset ? *to_offset : 0), length));
  return HIDDEN(copy_file_range)(from, from_offset, to, to_offset, length, flags);
}

FAILING int fsync(int fd) {
  FAIL(FailureOfFile("sync", fd));
  return HIDDEN(fsync)(fd);
}
FAILING int fdatasync(int fd) {
  FAIL(FailureOfFile("sync", fd));
  return HIDDEN(fdatasync)(fd);
}

FAILING int ftruncate(int fd, off_t length) {
  FAIL(FailureOfFile("length", fd));
  return HIDDEN(ftruncate)(fd, length);
}
FAILING int ftruncate64(int fd, off_t length) {
  return ftruncate(fd, length);
}
FAILING int fallocate(int fd, int mode, off_t offset, off_t length) {
  const char* operation = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) ? "punch" : "write";
  FAIL(FailureOfFile(operation, fd, static_cast<uint64_t>(offset), static_cast<uint64_t>(length)));
  return HIDDEN(fallocate)(fd, mode, offset, length);
}
FAILING int fallocate64(int fd, int mode, off_t offset, off_t length) {
  return fallocate(fd, mode, offset, length);
}

FAILING int ioctl(int fd, unsigned long request, ...) {
  va_list list;
  va_start(list, request);
  auto argument = va_arg(list, unsigned long);
  va_end(list);
  if (request == FICLONE || request == FICLONERANGE) FAIL(FailureOfFile("write", fd));
  return HIDDEN(ioctl)(fd, request, argument);
}

#define FAILING_OPEN(name, directory_parameter, directory)                                   \
  FAILING int name(directory_parameter const char* path, int flags, ...) {                   \
    va_list list;                                                                            \
    va_start(list, flags);                                                                   \
    mode_t mode = flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)) ? va_arg(list, mode_t) : 0; \
    va_end(list);                                                                            \
    FAIL(FailureOfOpen(directory, path, flags));                                             \
    return HIDDEN(openat)(directory, path, flags, mode);                                     \
  }
#define NONE
#define DIRECTORY int directory,
FAILING_OPEN(open, NONE, AT_FDCWD)
FAILING_OPEN(open64, NONE, AT_FDCWD)
FAILING_OPEN(openat, DIRECTORY, directory)
FAILING_OPEN(openat64, DIRECTORY, directory)

FAILING int rename(const char* from, const char* to) {
  FAIL(FailureOf("rename", AbsolutePath(AT_FDCWD, to)));
  return HIDDEN(rename)(from, to);
}
FAILING int renameat(int directory, const char* from, int other, const char* to) {
  FAIL(FailureOf("rename", AbsolutePath(other, to)));
  return HIDDEN(renameat)(directory, from, other, to);
}
FAILING int renameat2(int directory, const char* from, int other, const char* to, unsigned flags) {
  FAIL(FailureOf("rename", AbsolutePath(other, to)));
  return HIDDEN(renameat2)(directory, from, other, to, flags);
}
FAILING int link(const char* from, const char* to) {
  FAIL(FailureOf("link", AbsolutePath(AT_FDCWD, to)));
  return HIDDEN(link)(from, to);
}
FAILING int linkat(int directory, const char* from, int other, const char* to, int flags) {
  FAIL(FailureOf("link", AbsolutePath(other, to)));
  return HIDDEN(linkat)(directory, from, other, to, flags);
}
FAILING int unlink(const char* path) {
  FAIL(FailureOf("unlink", AbsolutePath(AT_FDCWD, path)));
  return HIDDEN(unlink)(path);
}
FAILING int unlinkat(int directory, const char* path, int flags) {
  FAIL(FailureOf("unlink", AbsolutePath(directory, path)));
  return HIDDEN(unlinkat)(directory, path, flags);
}
