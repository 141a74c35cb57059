#pragma once

#include <cstdint>
#include <functional>

#include "ring.h"

/** Reads one stretch of a file, whole. One at a time. */
class MapRead final : public Completion {
 public:
  explicit MapRead(Ring& ring) : ring_(ring) {}

  /** `file` is registered. Calls back with 0, or a negative errno: EIO where the file ends before. */
  void Start(int file, char* data, uint64_t length, uint64_t offset, std::function<void(int error)> done);

  void Complete(unsigned kind, int result, unsigned flags) override;

 private:
  void Send();

  Ring& ring_;
  int file_ = -1;
  char* data_ = nullptr;
  uint64_t length_ = 0, offset_ = 0;
  std::function<void(int error)> done_;
};
