#include "scratch.h"

#include <sys/mman.h>

#include "system.h"
#include "transport.h"

namespace {

constexpr size_t kMapBytes = Scratch::kMapPages * kBlockBytes;
constexpr size_t kBytes = kMapBytes + (1 + Scratch::kAsides) * kMaxTransfer;

}  // namespace

Scratch::Scratch() {
  void* base = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) throw SystemFailure{errno, "mmap"};
  base_ = static_cast<char*>(base);
  for (size_t index = 1; index <= kAsides; index++) asides_.push_back(transfer() + index * kMaxTransfer);
}

Scratch::~Scratch() {
  munmap(base_, kBytes);
}

char* Scratch::transfer() const {
  return base_ + kMapBytes;
}

char* Scratch::TakeAside() {
  if (asides_.empty()) return nullptr;
  char* aside = asides_.back();
  asides_.pop_back();
  return aside;
}

void Scratch::ReturnAside(char* aside) {
  asides_.push_back(aside);
}

void Scratch::Trim() {
  madvise(base_, kBytes, MADV_DONTNEED);
}
