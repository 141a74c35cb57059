#pragma once

#include <chrono>

/** A file system that is frozen, or not. Thawed with its scope, whatever has ended that. */
class FreezeHold {
 public:
  /** `fd` is any descriptor in the file system that is not O_PATH; it stays the caller's. */
  explicit FreezeHold(int fd) : fd_(fd) {}
  ~FreezeHold();
  FreezeHold(const FreezeHold&) = delete;
  FreezeHold& operator=(const FreezeHold&) = delete;

  /** FIFREEZE: writes out all that is dirty, with writers waiting from its beginning on. Can't be interrupted. */
  void Freeze();

  /** FITHAW. Returns false where somebody else has thawed it in between. */
  bool Thaw();

  bool is_frozen() const { return is_frozen_; }

  /** Since Freeze began; until Thaw ended, once it has. */
  std::chrono::nanoseconds elapsed() const;

 private:
  using Clock = std::chrono::steady_clock;

  int fd_;
  bool is_frozen_ = false;
  Clock::time_point begun_;
  Clock::time_point ended_;
};
