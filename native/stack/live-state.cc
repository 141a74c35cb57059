#include "live-state.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "map-window.h"

namespace {

constexpr uint64_t kMagic = 0x6576696c786f6f6c;  // "looxlive"
constexpr uint32_t kVersion = 1;
constexpr uint64_t kGrowth = 8;
/** 1 PiB: far beyond any file of today, and far from where sums overflow. */
constexpr uint64_t kMaxSize = uint64_t{1} << 50;

struct SlotEntry {
  Layer layer;
  bool is_loaded;
};

size_t PageAligned(size_t bytes) {
  return (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}

/** All stores before come before all stores after, as a later process sees them. */
void Fence() {
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

}  // namespace

struct LiveState::Header {
  uint64_t magic;
  uint32_t version;
  uint64_t capacity_blocks;
  uint32_t active_chain;
  Chain chains[2];
  SlotEntry slots[kSlots];
  bool failed, drop_held, has_pending;
  uint32_t held;
  PendingSwitch pending;
  EngineCounters counters;

  // Where the parts lie in the memfd.
  uint64_t pages() const { return (capacity_blocks + kPageBlocks - 1) / kPageBlocks; }
  size_t states_offset(int region) const { return PageAligned(sizeof(Header)) + region * PageAligned(pages()); }
  size_t owned_offset() const { return states_offset(2); }
  size_t bits_offset(int region) const {
    return owned_offset() + PageAligned(pages()) + region * pages() * kBlockBytes;
  }
  size_t owners_offset() const { return bits_offset(2); }
  size_t bytes() const { return owners_offset() + pages() * kPageBlocks; }
};

Fd LiveState::Create(uint64_t size, std::span<const Layer> layers) {
  if (layers.empty() || layers.size() > kMaxLayers || size == 0 || size % kBlockBytes)
    throw SystemFailure{EINVAL, "chain"};
  if (size > kMaxSize) throw SystemFailure{EFBIG, "chain"};
  Header header{};
  header.magic = kMagic;
  header.version = kVersion;
  header.capacity_blocks = size / kBlockBytes * kGrowth;
  Chain& chain = header.chains[0];
  chain.size = size;
  chain.unmerged = kNone;
  for (SlotEntry& slot : header.slots) slot.layer.fd = -1;
  for (const Layer& layer : layers) {
    // An image hides all that is below it, and nothing can be above the bottom but deltas.
    if (layer.is_image != (chain.length == kBottomSlot)) throw SystemFailure{EINVAL, "chain"};
    if (layer.size % kBlockBytes) throw SystemFailure{EINVAL, "chain"};
    header.slots[chain.length] = {layer, false};
    chain.order[chain.length] = static_cast<Slot>(chain.length);
    chain.length++;
  }
  if (layers.back().size != size) throw SystemFailure{EINVAL, "chain"};
  // A view ends at the V of each layer that it passes: what a larger one below has behind it is not seen, also when the
  // top grows.
  for (uint32_t i = chain.length - 1; i > 0; i--) {
    header.slots[i - 1].layer.size = std::min(header.slots[i - 1].layer.size, header.slots[i].layer.size);
  }
  Fd memfd(Check(memfd_create("loopbox-live", MFD_CLOEXEC), "memfd_create"));
  Check(ftruncate(memfd.get(), static_cast<off_t>(header.bytes())), "ftruncate");
  Check(pwrite(memfd.get(), &header, sizeof header, 0), "pwrite");
  return memfd;
}

LiveState::LiveState(int memfd) : memfd_(memfd) {
  struct stat status;
  Check(fstat(memfd, &status), "fstat");
  bytes_ = status.st_size;
  void* base = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memfd, 0);
  if (base == MAP_FAILED) throw SystemFailure{errno, "mmap"};
  header_ = static_cast<Header*>(base);
  if (bytes_ < sizeof(Header) || header_->magic != kMagic || header_->version != kVersion) {
    munmap(base, bytes_);
    throw SystemFailure{EPROTO, "live state"};
  }
  char* bytes = static_cast<char*>(base);
  for (int region : {0, 1}) {
    states_[region] = reinterpret_cast<PageState*>(bytes + header_->states_offset(region));
    bits_[region] = reinterpret_cast<uint64_t*>(bytes + header_->bits_offset(region));
  }
  owned_ = reinterpret_cast<bool*>(bytes + header_->owned_offset());
  owners_ = reinterpret_cast<Slot*>(bytes + header_->owners_offset());
}

LiveState::~LiveState() {
  munmap(header_, bytes_);
}

const LiveState::Chain& LiveState::chain() const {
  return header_->chains[header_->active_chain];
}

void LiveState::Commit(const Chain& chain) {
  uint32_t next = 1 - header_->active_chain;
  header_->chains[next] = chain;
  Fence();
  header_->active_chain = next;
  Fence();
}

const Layer& LiveState::layer(Slot slot) const {
  return header_->slots[slot].layer;
}

void LiveState::SetLayer(Slot slot, const Layer& layer) {
  header_->slots[slot].layer = layer;
  Fence();
}

void LiveState::FreeSlot(Slot slot) {
  header_->slots[slot].is_loaded = false;
  Fence();
  header_->slots[slot].layer.fd = -1;
}

std::optional<Slot> LiveState::FindFreeSlot() const {
  for (size_t slot = 0; slot < kSlots; slot++) {
    if (header_->slots[slot].layer.fd < 0) return static_cast<Slot>(slot);
  }
  return std::nullopt;
}

bool LiveState::IsInUse(Slot slot) const {
  const Chain& current = chain();
  const Slot* end = current.order + current.length;
  return std::find(current.order, end, slot) != end || (has_pending() && header_->pending.slot == slot);
}

bool LiveState::IsLoaded(Slot slot) const {
  return header_->slots[slot].is_loaded;
}

void LiveState::SetLoaded(Slot slot) {
  Fence();
  header_->slots[slot].is_loaded = true;
}

uint64_t LiveState::capacity_blocks() const {
  return header_->capacity_blocks;
}

uint64_t LiveState::pages() const {
  return (chain().size / kBlockBytes + kPageBlocks - 1) / kPageBlocks;
}

void LiveState::WipeRegion(int region) {
  // The bits first: cut off here, no page is called untouched that has some.
  Check(fallocate(memfd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(header_->bits_offset(region)),
                  static_cast<off_t>(header_->pages() * kBlockBytes)),
        "fallocate");
  Fence();
  std::fill_n(states_[region], pages(), PageState::kUntouched);
  Fence();
}

bool LiveState::failed() const {
  return header_->failed;
}
void LiveState::SetFailed() {
  header_->failed = true;
}
uint32_t LiveState::held() const {
  return header_->held;
}
void LiveState::SetHeld(uint32_t count) {
  header_->held = count;
}
bool LiveState::drop_held() const {
  return header_->drop_held;
}
void LiveState::SetDropHeld() {
  header_->drop_held = true;
}

bool LiveState::has_pending() const {
  return std::atomic_ref(header_->has_pending).load();
}

std::optional<PendingSwitch> LiveState::pending() const {
  if (!has_pending()) return std::nullopt;
  return header_->pending;
}

void LiveState::SetPending(const PendingSwitch& pending) {
  header_->pending = pending;
  std::atomic_ref(header_->has_pending).store(true);
}

void LiveState::ClearPending() {
  std::atomic_ref(header_->has_pending).store(false);
}

EngineCounters& LiveState::counters() const {
  return header_->counters;
}
