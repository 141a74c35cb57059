#include "record-log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

#include "record-paths.h"
#include "system.h"

namespace {

/** The system calls themselves: those of the C library are recorded. */
long Open(const char* path, int flags) {
  return syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0600);
}

}  // namespace

void AppendRecord(const RecordEntry& entry) {
  int error = errno;
  RecordHeader header{.bytes = 0,
                      .record = entry.record,
                      .path_bytes = static_cast<uint32_t>(entry.path.size()),
                      .other_bytes = static_cast<uint32_t>(entry.other.size()),
                      .data_bytes = static_cast<uint32_t>(entry.data.size()),
                      .reserved = 0,
                      .inode = entry.inode,
                      .offset = entry.offset,
                      .length = entry.length,
                      .id = entry.id,
                      .after = entry.after};
  header.bytes = sizeof header + header.path_bytes + header.other_bytes + header.data_bytes;
  iovec parts[] = {{&header, sizeof header},
                   {const_cast<char*>(entry.path.data()), entry.path.size()},
                   {const_cast<char*>(entry.other.data()), entry.other.size()},
                   {const_cast<char*>(entry.data.data()), entry.data.size()}};
  // Each time anew: programs close what they do not know.
  long fd = Open(std::getenv("LOOPBOX_RECORD_LOG"), O_WRONLY | O_APPEND | O_CREAT);
  // A log with a gap proves nothing.
  if (fd < 0 || syscall(SYS_writev, fd, parts, 4) != static_cast<long>(header.bytes)) abort();
  syscall(SYS_close, fd);
  errno = error;
}

uint64_t NewRecordId() {
  static std::atomic<uint32_t> last = 0;
  return static_cast<uint64_t>(getpid()) << 32 | ++last;
}

uint64_t RecordedInode(int fd) {
  int error = errno;
  uint64_t inode = 0;
  struct stat status;
  if (IsRecorded(PathOf(fd)) && fstat(fd, &status) == 0) inode = status.st_ino;
  errno = error;
  return inode;
}

const std::string& RecordedDirectory() {
  static const std::string directory = [] {
    const char* told = std::getenv("LOOPBOX_RECORD");
    return std::string(told && std::getenv("LOOPBOX_RECORD_LOG") ? told : "");
  }();
  return directory;
}

bool IsRecorded(const std::string& path) {
  const std::string& directory = RecordedDirectory();
  if (directory.empty() || path.compare(0, directory.size(), directory) != 0) return false;
  return path.size() == directory.size() || path[directory.size()] == '/';
}

std::string RecordedPath(int directory, const char* path) {
  std::string whole = path;
  if (whole.empty() || whole[0] != '/') {
    std::string base = directory == AT_FDCWD ? PathOfWorkingDirectory() : PathOf(directory);
    whole = base + "/" + whole;
  }
  if (!IsRecorded(whole) || whole.size() == RecordedDirectory().size()) return "";
  return whole.substr(RecordedDirectory().size() + 1);
}

std::string PathOfWorkingDirectory() {
  char path[PATH_MAX];
  ssize_t length = readlink("/proc/self/cwd", path, sizeof path);
  return length > 0 ? std::string(path, length) : "";
}
