#include "block-map.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "aligned-buffer.h"
#include "backend.h"
#include "bits.h"
#include "map-window.h"

namespace {

/** For each byte of a map, the bytes of the owner map that its bits stand for. */
constexpr std::array<uint64_t, 256> kSpread = [] {
  std::array<uint64_t, 256> spread{};
  for (unsigned byte = 0; byte < 256; byte++) {
    for (unsigned bit = 0; bit < 8; bit++) {
      if (byte >> bit & 1) spread[byte] |= uint64_t{0xff} << bit * 8;
    }
  }
  return spread;
}();

/** Clears what of a map page does not count: bits below `first_block` and beyond V. Returns whether bits are left. */
bool KeepValid(const Layer& layer, uint64_t page, uint64_t* words) {
  uint64_t first = page * kPageBlocks, end = layer.size / kBlockBytes;
  uint64_t any = 0;
  for (uint64_t index = 0; index < kPageBlocks / 64; index++) {
    uint64_t block = first + index * 64;
    if (block < layer.first_block) {
      words[index] = layer.first_block - block < 64
                         ? words[index] >> (layer.first_block - block) << (layer.first_block - block)
                         : 0;
    }
    if (block + 64 > end) words[index] = block < end ? words[index] << (block + 64 - end) >> (block + 64 - end) : 0;
    any |= words[index];
  }
  return any != 0;
}

/** Calls `body(page, words)` for each of a layer's map pages that lie in its V. */
template <typename Body>
void ForMapPages(const Layer& layer, uint64_t first_page, uint64_t end_page, Body body) {
  constexpr uint64_t kAtOnce = AlignedBuffer::kLarge / kBlockBytes;
  end_page = std::min(end_page, (layer.size / kBlockBytes + kPageBlocks - 1) / kPageBlocks);
  if (first_page >= end_page) return;
  AlignedBuffer buffer(std::min(end_page - first_page, kAtOnce) * kBlockBytes);
  for (uint64_t page = first_page; page < end_page;) {
    uint64_t count = std::min(end_page - page, kAtOnce);
    ReadAll(SystemBackend(), layer.fd, buffer.data(), count * kBlockBytes, layer.map_offset + page * kBlockBytes);
    for (char* at = static_cast<char*>(buffer.data()); count > 0; count--, page++, at += kBlockBytes) {
      body(page, reinterpret_cast<uint64_t*>(at));
    }
  }
}

}  // namespace

BlockMap::Extent BlockMap::FindInPage(uint64_t block, uint64_t end) {
  const LiveState::Chain& chain = state_.chain();
  uint64_t page = block / kPageBlocks;
  end = std::min(end, (page + 1) * kPageBlocks);
  if (chain.unmerged != LiveState::kNone) MergePage(page);
  if (state_.page_state(chain.region, page) != PageState::kUntouched) {
    const uint64_t* bits = state_.bits(chain.region);
    if (IsSet(bits, block)) return {chain.top(), NextBit<false>(bits, block, end)};
    end = NextBit<true>(bits, block, end);
  }
  if (!state_.is_owned_above(page)) return {kBottomSlot, end};
  return {state_.owners()[block], NextOther(state_.owners(), block, end)};
}

BlockMap::Extent BlockMap::Find(uint64_t block, uint64_t end) {
  const LiveState::Chain& chain = state_.chain();
  Extent extent = chain.length == 1 ? Extent{kBottomSlot, end} : FindInPage(block, end);
  while (extent.end < end && extent.end % kPageBlocks == 0) {
    Extent next = FindInPage(extent.end, end);
    if (next.owner != extent.owner) break;
    extent.end = next.end;
  }
  if (extent.owner == kBottomSlot) {
    uint64_t blocks = state_.layer(kBottomSlot).size / kBlockBytes;
    if (block >= blocks) return {kNobody, extent.end};
    extent.end = std::min(extent.end, blocks);
  }
  return extent;
}

bool BlockMap::IsInTop(uint64_t begin, uint64_t end) {
  const LiveState::Chain& chain = state_.chain();
  if (chain.length == 1) return true;
  return NextBit<false>(state_.bits(chain.region), begin, end) == end;
}

void BlockMap::SetInTop(uint64_t begin, uint64_t end) {
  int region = state_.chain().region;
  for (uint64_t page = begin / kPageBlocks; page <= (end - 1) / kPageBlocks; page++) {
    state_.SetPageState(region, page, PageState::kDirty);
  }
  SetBitRange(state_.bits(region), begin, end);
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

void BlockMap::AddMapPage(const Layer& layer, uint64_t page, uint64_t* words, int region) {
  if (!KeepValid(layer, page, words)) return;
  state_.SetPageState(region, page, PageState::kClean);
  std::memcpy(state_.bits(region) + page * (kPageBlocks / 64), words, kBlockBytes);
}

void BlockMap::Load(Slot slot) {
  if (state_.IsLoaded(slot)) return;
  const Layer& layer = state_.layer(slot);
  if (slot == kBottomSlot) {
    // An image owns everything.
  } else if (slot == state_.chain().top()) {
    int region = state_.chain().region;
    state_.WipeRegion(region);
    ForMapPages(layer, 0, UINT64_MAX, [&](uint64_t page, uint64_t* words) { AddMapPage(layer, page, words, region); });
  } else {
    ForMapPages(layer, 0, UINT64_MAX, [&](uint64_t page, uint64_t* words) {
      if (KeepValid(layer, page, words)) MergeMapPage(words, page, slot);
    });
  }
  state_.SetLoaded(slot);
}

void BlockMap::BeginNextTop() {
  MergeAll();
  state_.WipeRegion(1 - state_.chain().region);
}

void BlockMap::AddToNextTop(const Layer& layer, uint64_t first_page, char* map, uint64_t pages) {
  for (uint64_t page = first_page; page < first_page + pages; page++, map += kBlockBytes) {
    AddMapPage(layer, page, reinterpret_cast<uint64_t*>(map), 1 - state_.chain().region);
  }
}

void BlockMap::MergeMapPage(const uint64_t* bits, uint64_t page, Slot slot) {
  state_.TouchOwners(page);
  Slot* owners = state_.owners() + page * kPageBlocks;
  const auto* bytes = reinterpret_cast<const uint8_t*>(bits);
  for (uint64_t at = 0; at < kBlockBytes; at++) {
    if (!bytes[at]) continue;
    uint64_t mask = kSpread[bytes[at]], eight;
    std::memcpy(&eight, owners + at * 8, sizeof eight);
    eight = (eight & ~mask) | (Repeated(slot) & mask);
    std::memcpy(owners + at * 8, &eight, sizeof eight);
  }
}

void BlockMap::MergePage(uint64_t page) {
  const LiveState::Chain& chain = state_.chain();
  int region = 1 - chain.region;
  if (state_.page_state(region, page) == PageState::kUntouched) return;
  MergeMapPage(state_.bits(region) + page * (kPageBlocks / 64), page, static_cast<Slot>(chain.unmerged));
  state_.SetPageState(region, page, PageState::kUntouched);
}

bool BlockMap::Merge(uint64_t pages) {
  LiveState::Chain chain = state_.chain();
  if (chain.unmerged == LiveState::kNone) return false;
  const uint8_t* states = state_.page_states(1 - chain.region);
  for (uint64_t page = 0, end = state_.pages(); page < end; page++) {
    if (states[page] == static_cast<uint8_t>(PageState::kUntouched)) continue;
    if (pages-- == 0) return true;
    MergePage(page);
  }
  state_.WipeRegion(1 - chain.region);
  chain.unmerged = LiveState::kNone;
  state_.Commit(chain);
  return false;
}

uint64_t BlockMap::NextOwnedPage(uint64_t page) const {
  uint64_t end = state_.pages();
  while (page < end && !state_.is_owned_above(page)) page++;
  return page;
}

void BlockMap::Reassign(Slot from, Slot to, uint64_t end_block) {
  MergeAll();
  Slot* owners = state_.owners();
  for (uint64_t page = NextOwnedPage(0); page * kPageBlocks < end_block && page < state_.pages();
       page = NextOwnedPage(page + 1)) {
    uint64_t end = std::min(end_block, (page + 1) * kPageBlocks);
    for (uint64_t block = page * kPageBlocks, next; block < end; block = next) {
      next = NextOther(owners, block, end);
      if (owners[block] == from) std::memset(owners + block, to, next - block);
    }
  }
}

bool BlockMap::IsNeeded(Slot slot, Slot above) {
  MergeAll();
  const LiveState::Chain& chain = state_.chain();
  for (uint64_t page = NextOwnedPage(0); page < state_.pages(); page = NextOwnedPage(page + 1)) {
    const Slot* owners = state_.owners() + page * kPageBlocks;
    if (!std::memchr(owners, slot, kPageBlocks)) continue;
    auto lacks = [&](const uint64_t* words) {
      for (uint64_t at = 0, next; at < kPageBlocks; at = next) {
        next = NextOther(owners, at, kPageBlocks);
        if (owners[at] == slot && NextBit<false>(words, at, next) < next) return true;
      }
      return false;
    };
    bool is_lacking = true;
    if (above != chain.top()) {
      const Layer& layer = state_.layer(above);
      ForMapPages(layer, page, page + 1, [&](uint64_t, uint64_t* words) {
        KeepValid(layer, page, words);
        is_lacking = lacks(words);
      });
    } else if (state_.page_state(chain.region, page) != PageState::kUntouched) {
      is_lacking = lacks(state_.bits(chain.region) + page * (kPageBlocks / 64));
    }
    if (is_lacking) return true;
  }
  return false;
}
