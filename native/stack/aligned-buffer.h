#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

/** Memory that direct I/O takes. */
class AlignedBuffer {
 public:
  /** What large transfers are cut into. */
  static constexpr size_t kLarge = 1 << 20;

  enum Content { kZeroes, kAnything };

  /** `size` is rounded up to whole pages. */
  explicit AlignedBuffer(size_t size, Content content = kZeroes)
      : size_((size + kPage - 1) / kPage * kPage), data_(std::aligned_alloc(kPage, size_), &std::free) {
    if (!data_) throw std::bad_alloc();
    if (content == kZeroes) std::memset(data_.get(), 0, size_);
  }

  void* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  static constexpr size_t kPage = 4096;
  size_t size_;
  std::unique_ptr<void, decltype(&std::free)> data_;
};
