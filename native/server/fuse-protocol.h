#pragma once

#include <linux/fuse.h>

#include <cstddef>
#include <cstdint>

// What Debian 12's linux/fuse.h lacks.

/** FUSE_HAS_RESEND, of `flags2` of INIT. */
constexpr uint32_t kFuseHasResend2 = 1U << 7;
/** FUSE_NOTIFY_RESEND: all requests that were read and not answered are to be read again. */
constexpr int32_t kFuseNotifyResend = 7;

/** FUSE_OVER_IO_URING, of `flags2` of INIT. */
constexpr uint32_t kFuseOverUring2 = 1U << 9;

/** Commands to /dev/fuse: offers an entry, or answers its request and offers it again. They end with the next request.
 */
constexpr uint32_t kFuseUringRegister = 1, kFuseUringCommitAndFetch = 2;

/** What such a command carries. */
struct FuseUringCommand {
  uint64_t flags;
  uint64_t commit_id;
  uint16_t queue;
  uint8_t padding[6];
};
static_assert(sizeof(FuseUringCommand) == 24);

/** What of a request or an answer is not its payload. */
struct FuseUringHeader {
  /** A fuse_in_header, or a fuse_out_header. */
  char in_out[128];
  /** The operation's own arguments, but for names. */
  char argument[128];
  uint64_t flags;
  /** What an answer is to be called. */
  uint64_t commit_id;
  uint32_t payload_length;
  uint32_t padding;
  uint64_t reserved;
};
static_assert(sizeof(FuseUringHeader) == 288 && offsetof(FuseUringHeader, commit_id) == 264);
