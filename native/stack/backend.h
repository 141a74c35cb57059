#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>

/**
 * The calls by which merges read and change files; each does as the system call of its name, errno included. Tests put
 * faults in their place, and a recorder of all that reaches the host.
 */
class Backend {
 public:
  virtual ~Backend() = default;
  virtual ssize_t Read(int fd, void* data, size_t length, uint64_t offset);
  virtual ssize_t Write(int fd, const void* data, size_t length, uint64_t offset);
  /** fdatasync. */
  virtual int Sync(int fd);
  /** fallocate(PUNCH_HOLE | KEEP_SIZE). */
  virtual int Punch(int fd, uint64_t offset, uint64_t length);
};

/** The system calls themselves. */
Backend& SystemBackend();

/** Bytes [start, end) of a file. */
struct ByteRange {
  uint64_t start;
  uint64_t end;
};

/** All of it or a SystemFailure; a file that ends before is EIO. */
void ReadAll(Backend& backend, int fd, void* data, size_t length, uint64_t offset);
void WriteAll(Backend& backend, int fd, const void* data, size_t length, uint64_t offset);
void SyncAll(Backend& backend, int fd);
/** Punches; writes zeroes where the file system knows no holes. */
void ZeroAll(Backend& backend, int fd, uint64_t offset, uint64_t length);

/** The first data at or after `offset` (SEEK_DATA, SEEK_HOLE); nothing where only a hole follows. */
std::optional<ByteRange> FindData(int fd, uint64_t offset);
