#include "fuse-request.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>

#include "fuse-protocol.h"

std::optional<int> ReadFuseRequest(uint32_t opcode, const char* argument, Request& request) {
  switch (opcode) {
    case FUSE_READ:
    case FUSE_WRITE: {
      fuse_read_in io;  // agrees with fuse_write_in in offset and size
      std::memcpy(&io, argument, sizeof io);
      request.operation = opcode == FUSE_READ ? Operation::kRead : Operation::kWrite;
      request.offset = io.offset;
      request.length = io.size;
      return 0;
    }
    case FUSE_FALLOCATE: {
      fuse_fallocate_in range;
      std::memcpy(&range, argument, sizeof range);
      request.operation = Operation::kZero;
      request.offset = range.offset;
      request.length = range.length;
      return range.mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) ? 0 : -EOPNOTSUPP;
    }
    case FUSE_FSYNC:
      request.operation = Operation::kFlush;
      return 0;
    default:
      return std::nullopt;
  }
}
