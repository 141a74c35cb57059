#include "backend.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "aligned-buffer.h"
#include "system.h"

ssize_t Backend::Read(int fd, void* data, size_t length, uint64_t offset) {
  return pread(fd, data, length, static_cast<off_t>(offset));
}

ssize_t Backend::Write(int fd, const void* data, size_t length, uint64_t offset) {
  return pwrite(fd, data, length, static_cast<off_t>(offset));
}

int Backend::Sync(int fd) {
  return fdatasync(fd);
}

int Backend::Punch(int fd, uint64_t offset, uint64_t length) {
  return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                   static_cast<off_t>(length));
}

Backend& SystemBackend() {
  static Backend backend;
  return backend;
}

void ReadAll(Backend& backend, int fd, void* data, size_t length, uint64_t offset) {
  auto* bytes = static_cast<char*>(data);
  while (length > 0) {
    ssize_t count = backend.Read(fd, bytes, length, offset);
    if (count < 0 && errno == EINTR) continue;
    CheckOn(fd, count, "pread");
    // Never zeroes in place of what should be there.
    if (count == 0) throw SystemFailure{EIO, "pread", PathOf(fd)};
    bytes += count, offset += count, length -= count;
  }
}

void WriteAll(Backend& backend, int fd, const void* data, size_t length, uint64_t offset) {
  auto* bytes = static_cast<const char*>(data);
  while (length > 0) {
    ssize_t count = backend.Write(fd, bytes, length, offset);
    if (count < 0 && errno == EINTR) continue;
    CheckOn(fd, count, "pwrite");
    bytes += count, offset += count, length -= count;
  }
}

void SyncAll(Backend& backend, int fd) {
  CheckOn(fd, backend.Sync(fd), "fdatasync");
}

void ZeroAll(Backend& backend, int fd, uint64_t offset, uint64_t length) {
  int result;
  do {
    result = backend.Punch(fd, offset, length);
  } while (result < 0 && errno == EINTR);
  if (result == 0) return;
  if (errno != EOPNOTSUPP) CheckOn(fd, result, "fallocate");
  AlignedBuffer zeroes(std::min<uint64_t>(length, AlignedBuffer::kLarge));
  for (uint64_t done = 0; done < length; done += zeroes.size()) {
    WriteAll(backend, fd, zeroes.data(), std::min<uint64_t>(zeroes.size(), length - done), offset + done);
  }
}

std::optional<ByteRange> FindData(int fd, uint64_t offset) {
  off_t start = lseek(fd, static_cast<off_t>(offset), SEEK_DATA);
  if (start < 0 && errno == ENXIO) return std::nullopt;
  CheckOn(fd, start, "lseek");
  off_t end = lseek(fd, start, SEEK_HOLE);
  if (end < 0 && errno == ENXIO) return std::nullopt;  // the file was cut between the two calls
  return ByteRange{static_cast<uint64_t>(start), static_cast<uint64_t>(CheckOn(fd, end, "lseek"))};
}
