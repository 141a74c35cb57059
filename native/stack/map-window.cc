#include "map-window.h"

#include <algorithm>
#include <cstring>

namespace {

/** Bits from `from` up in a word, for `from` below 64. */
uint64_t From(uint64_t from) {
  return ~0ull << from;
}

void SetInPage(uint64_t* words, uint64_t first, uint64_t end) {
  for (uint64_t block = first; block < end;) {
    uint64_t next = std::min(end, (block / 64 + 1) * 64);
    uint64_t bits = From(block % 64);
    if (next % 64 != 0) bits &= ~From(next % 64);
    words[block / 64] |= bits;
    block = next;
  }
}

}  // namespace

MapWindow::MapWindow(Backend& backend, const Layer& layer)
    : backend_(backend), layer_(layer), words_(layer.is_image ? 1 : kBlocks / 8, AlignedBuffer::kAnything) {}

uint64_t MapWindow::Word(uint64_t block) {
  uint64_t blocks = layer_.size / kBlockBytes;
  if (layer_.is_image || block >= blocks) return ~0ull;
  if (block < first_ || block - first_ >= kBlocks) Load(block);
  uint64_t word = static_cast<const uint64_t*>(words_.data())[(block - first_) / 64];
  return blocks - block < 64 ? word | From(blocks - block) : word;
}

void MapWindow::Load(uint64_t block) {
  first_ = UINT64_MAX;
  uint64_t first = block / kPageBlocks * kPageBlocks;
  uint64_t pages = (layer_.size / kBlockBytes - first + kPageBlocks - 1) / kPageBlocks;
  ReadAll(backend_, layer_.fd, words_.data(), std::min(pages * kBlockBytes, words_.size()),
          layer_.map_offset + first / 8);
  first_ = first;
}

std::optional<Run> FindRun(const WordAt& word, uint64_t first, uint64_t end) {
  if (first >= end) return std::nullopt;
  uint64_t base = first / 64 * 64;
  uint64_t bits = word(base) & From(first % 64);
  while (bits == 0) {
    base += 64;
    if (base >= end) return std::nullopt;
    bits = word(base);
  }
  uint64_t start = base + std::countr_zero(bits);
  if (start >= end) return std::nullopt;
  uint64_t clear = ~bits & From(start % 64);
  while (clear == 0) {
    base += 64;
    if (base >= end) return Run{start, end};
    clear = ~word(base);
  }
  return Run{start, std::min(end, base + std::countr_zero(clear))};
}

void ForRuns(const WordAt& word, const Run& range, const std::function<void(const Run&)>& body) {
  uint64_t block = range.first;
  while (std::optional<Run> run = FindRun(word, block, range.end)) {
    body(*run);
    block = run->end;
  }
}

void SetBits(Backend& backend, const Layer& layer, const std::vector<Run>& runs) {
  AlignedBuffer page(kBlockBytes, AlignedBuffer::kAnything);
  auto* words = static_cast<uint64_t*>(page.data());
  uint64_t loaded = UINT64_MAX;
  auto offset_of = [&](uint64_t index) { return layer.map_offset + index * kBlockBytes; };
  auto store = [&] {
    if (loaded != UINT64_MAX) WriteAll(backend, layer.fd, words, kBlockBytes, offset_of(loaded));
  };
  for (const Run& run : runs) {
    for (uint64_t block = run.first; block < run.end;) {
      uint64_t index = block / kPageBlocks;
      if (index != loaded) {
        store();
        ReadAll(backend, layer.fd, words, kBlockBytes, offset_of(index));
        loaded = index;
      }
      uint64_t next = std::min(run.end, (index + 1) * kPageBlocks);
      SetInPage(words, block - index * kPageBlocks, next - index * kPageBlocks);
      block = next;
    }
  }
  store();
}
