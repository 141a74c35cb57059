// What goes through a ring bypasses the C library's calls, but is handed over by those of liburing.

#include <fcntl.h>
#include <liburing.h>

#include <cerrno>
#include <map>

#include "fail-rules.h"
#include "hidden-calls.h"

namespace {

/** Registered files of the one ring of a program. */
std::map<unsigned, int> files;

int FileOf(const io_uring_sqe& entry) {
  if (!(entry.flags & IOSQE_FIXED_FILE)) return entry.fd;
  auto found = files.find(static_cast<unsigned>(entry.fd));
  return found == files.end() ? -1 : found->second;
}

int FailureOfEntry(const io_uring_sqe& entry) {
  int fd = FileOf(entry);
  if (fd < 0) return 0;
  switch (entry.opcode) {
    case IORING_OP_READ:
    case IORING_OP_READ_FIXED:
      return FailureOfFile("read", fd, entry.off, entry.len);
    case IORING_OP_WRITE:
    case IORING_OP_WRITE_FIXED:
      return FailureOfFile("write", fd, entry.off, entry.len);
    case IORING_OP_FALLOCATE:
      // As prepared by liburing: `addr` is the length.
      return FailureOfFile("punch", fd, entry.off, entry.addr);
    case IORING_OP_FSYNC:
      return FailureOfFile("sync", fd);
    default:
      return 0;
  }
}

/** Entries that have to fail are of no file: EBADF, whatever the rule says; of chains the rest is cancelled. */
void Send(io_uring* ring) {
  for (unsigned at = ring->sq.sqe_head; at != ring->sq.sqe_tail; at++) {
    io_uring_sqe& entry = ring->sq.sqes[at & ring->sq.ring_mask];
    if (FailureOfEntry(entry) == 0) continue;
    entry.fd = -1;
    entry.flags &= ~IOSQE_FIXED_FILE;
  }
}

}  // namespace

#define FAILING extern "C" __attribute__((visibility("default")))

FAILING int io_uring_register_files_update(io_uring* ring, unsigned index, const int* updated, unsigned count) {
  for (unsigned i = 0; i < count; i++) files[index + i] = updated[i];
  return HIDDEN(io_uring_register_files_update)(ring, index, updated, count);
}
FAILING int io_uring_submit(io_uring* ring) {
  Send(ring);
  return HIDDEN(io_uring_submit)(ring);
}
FAILING int io_uring_submit_and_wait(io_uring* ring, unsigned count) {
  Send(ring);
  return HIDDEN(io_uring_submit_and_wait)(ring, count);
}
