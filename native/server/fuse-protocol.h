#pragma once

#include <linux/fuse.h>

#include <cstdint>

// What Debian 12's linux/fuse.h lacks.

/** FUSE_HAS_RESEND, of `flags2` of INIT. */
constexpr uint32_t kFuseHasResend2 = 1U << 7;
/** FUSE_NOTIFY_RESEND: all requests that were read and not answered are to be read again. */
constexpr int32_t kFuseNotifyResend = 7;
