#include "freeze-hold.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <time.h>

#include "system.h"

FreezeHold::~FreezeHold() {
  // A container that stays frozen is lost: there is nothing to give up for.
  const timespec pause = {.tv_sec = 0, .tv_nsec = 100'000'000};
  while (is_frozen_) {
    try {
      Thaw();
    } catch (const SystemFailure&) {
      nanosleep(&pause, nullptr);
    }
  }
}

void FreezeHold::Freeze() {
  begun_ = Clock::now();
  CheckOn(fd_, ioctl(fd_, FIFREEZE, 0), "ioctl(FIFREEZE)");
  is_frozen_ = true;
}

bool FreezeHold::Thaw() {
  const bool was_frozen = ioctl(fd_, FITHAW, 0) == 0;
  if (!was_frozen && errno != EINVAL) CheckOn(fd_, -1, "ioctl(FITHAW)");
  ended_ = Clock::now();
  is_frozen_ = false;
  return was_frozen;
}

std::chrono::nanoseconds FreezeHold::elapsed() const {
  return (is_frozen_ ? Clock::now() : ended_) - begun_;
}
