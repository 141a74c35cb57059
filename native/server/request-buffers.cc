#include "request-buffers.h"

#include <sys/mman.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "log.h"
#include "system.h"
#include "transport.h"

namespace {

constexpr size_t kPage = 4096;
constexpr size_t kStride = kPage + kMaxTransfer;

}  // namespace

RequestBuffers::RequestBuffers(Ring& ring, unsigned count, unsigned small) : ring_(ring), count_(count) {
  void* base =
      mmap(nullptr, count * kStride, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) throw SystemFailure{errno, "mmap"};
  base_ = static_cast<char*>(base);
  madvise(page(small), (count - small) * kStride, MADV_HUGEPAGE);
  if (int result = io_uring_register_buffers_sparse(ring_.get(), count); result < 0) {
    munmap(base_, count * kStride);
    throw SystemFailure{-result, "io_uring_register"};
  }
}

RequestBuffers::~RequestBuffers() {
  munmap(base_, count_ * kStride);
}

char* RequestBuffers::page(unsigned index) const {
  return base_ + index * kStride;
}

char* RequestBuffers::data(unsigned index) const {
  return page(index) + kPage;
}

void RequestBuffers::Fill(unsigned first, unsigned count) {
  if (madvise(page(first), count * kStride, MADV_POPULATE_WRITE) < 0) std::memset(page(first), 0, count * kStride);
}

size_t RequestBuffers::Register(unsigned index) {
  iovec whole{page(index), kStride};
  __u64 tag = 0;
  int result = io_uring_register_buffers_update_tag(ring_.get(), index, &whole, &tag, 1);
  if (result < 0) Log(std::string("a buffer is not registered: ") + strerror(-result));
  return result < 0 ? 0 : kMaxTransfer;
}

void RequestBuffers::Drop(unsigned first, unsigned count) {
  for (unsigned index = first; index < first + count; index++) {
    iovec none{};
    __u64 tag = 0;
    io_uring_register_buffers_update_tag(ring_.get(), index, &none, &tag, 1);
  }
  madvise(page(first), count * kStride, MADV_DONTNEED);
}
