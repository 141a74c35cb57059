#include "fuse-answers.h"

#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>

#include "log.h"

namespace {

constexpr uint64_t kRootNode = FUSE_ROOT_ID, kFileNode = 2;
/** The name never becomes another file's. */
constexpr uint64_t kForeverSeconds = 1'000'000;

template <typename Body>
FuseAnswer Success(const Body& body) {
  FuseAnswer answer;
  static_assert(sizeof body <= sizeof answer.body);
  std::memcpy(answer.body, &body, sizeof body);
  answer.length = sizeof body;
  return answer;
}

FuseAnswer Failure(int error) {
  FuseAnswer answer;
  answer.error = error;
  return answer;
}

fuse_attr Attributes(const FuseFile& file, uint64_t node) {
  fuse_attr attributes{};
  attributes.ino = node;
  attributes.mode = node == kRootNode ? S_IFDIR | 0700 : S_IFREG | 0600;
  attributes.size = node == kRootNode ? 0 : file.size_bytes;
  attributes.nlink = 1;
  attributes.blksize = 4096;
  return attributes;
}

FuseAnswer Init(const FuseFile& file, const fuse_init_in& asked) {
  fuse_init_out out{};
  out.major = FUSE_KERNEL_VERSION;
  out.minor = asked.minor;
  // Without ASYNC_DIO the loop device's requests come one by one.
  out.flags = FUSE_INIT_EXT | FUSE_ASYNC_READ | FUSE_ASYNC_DIO | FUSE_BIG_WRITES | FUSE_MAX_PAGES;
  out.flags2 = kFuseHasResend2 | (file.is_over_uring ? kFuseOverUring2 : 0);
  out.max_background = file.max_background;
  out.congestion_threshold = file.max_background;
  out.max_write = file.max_transfer;
  out.max_pages = static_cast<uint16_t>(file.max_transfer / 4096);
  out.time_gran = 1;
  return Success(out);
}

FuseAnswer Lookup(const FuseFile& file, const char* name) {
  if (file.name != name) return Failure(-ENOENT);
  fuse_entry_out out{};
  out.nodeid = kFileNode;
  out.entry_valid = kForeverSeconds;
  out.attr = Attributes(file, kFileNode);
  return Success(out);
}

}  // namespace

bool IsUnanswered(uint32_t opcode) {
  return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_DESTROY;
}

bool OffersUring(const char* argument) {
  const fuse_init_in& asked = *reinterpret_cast<const fuse_init_in*>(argument);
  return (asked.flags & FUSE_INIT_EXT) && (asked.flags2 & kFuseOverUring2);
}

FuseAnswer AnswerFuse(const FuseFile& file, const fuse_in_header& header, const char* argument) {
  switch (header.opcode) {
    case FUSE_INIT:
      return Init(file, *reinterpret_cast<const fuse_init_in*>(argument));
    case FUSE_LOOKUP:
      return Lookup(file, argument);
    case FUSE_GETATTR: {
      fuse_attr_out out{};
      out.attr = Attributes(file, header.nodeid);
      return Success(out);
    }
    case FUSE_OPEN: {
      fuse_open_out out{};
      out.open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
      return Success(out);
    }
    case FUSE_STATFS: {
      // Becomes the granularity of the loop device's discards.
      fuse_statfs_out out{};
      out.st.bsize = 4096;
      return Success(out);
    }
    case FUSE_RELEASE:
    case FUSE_FLUSH:
      return {};
    default:
      return Failure(-ENOSYS);
  }
}

void WriteFuseAnswer(int fuse, uint64_t unique, const FuseAnswer& answer) {
  fuse_out_header out{static_cast<uint32_t>(sizeof out + answer.length), answer.error, unique};
  iovec parts[] = {{&out, sizeof out}, {const_cast<char*>(answer.body), answer.length}};
  // ENOENT: the request was given up.
  if (writev(fuse, parts, 2) < 0 && errno != ENOENT) Log(std::string("answer: ") + strerror(errno));
}

bool IsFuseDisconnected(int fuse) {
  pollfd connection{fuse, 0, 0};
  return poll(&connection, 1, 0) > 0 && (connection.revents & POLLERR);
}
