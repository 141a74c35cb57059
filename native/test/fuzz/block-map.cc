/**
 * Maps of a chain as files hold them: for each delta its V, where its bits begin to count, and bits. What owns a block
 * must be what a look at one bit after the other says.
 */
#include "block-map.h"

#include <sys/mman.h>

#include <array>
#include <vector>

#include "assert.h"
#include "fuzz-input.h"
#include "map-window.h"

namespace {

/** Three map pages, the last one not full. */
constexpr uint64_t kBlocks = 2 * kPageBlocks + 1000;
constexpr size_t kDeltas = 3;
constexpr uint64_t kMapOffset = 64 * 1024;

struct Delta {
  Fd file;
  Layer layer;
  std::vector<uint8_t> map = std::vector<uint8_t>(3 * kBlockBytes);

  bool Owns(uint64_t block) const {
    if (block >= layer.size / kBlockBytes || block < layer.first_block) return false;
    return map[block / 8] >> block % 8 & 1;
  }
};

Delta MakeDelta(FuzzInput& input, bool is_top) {
  Delta delta;
  delta.file = Fd(Check(memfd_create("map", MFD_CLOEXEC), "memfd_create"));
  delta.layer = {.fd = delta.file.get(),
                 .size = (is_top ? kBlocks : 1 + input.Take<uint32_t>() % kBlocks) * kBlockBytes,
                 .map_offset = kMapOffset,
                 .data_offset = 1 << 20,
                 .first_block = input.Take<uint32_t>() % (2 * kBlocks)};
  for (unsigned runs = input.Take<uint8_t>() % 8; runs > 0; --runs) {
    const size_t at = input.Take<uint16_t>() % delta.map.size();
    const std::string_view bytes = input.TakeBytes(input.Take<uint8_t>());
    const size_t length = std::min(bytes.size(), delta.map.size() - at);
    std::copy_n(bytes.begin(), length, delta.map.begin() + static_cast<std::ptrdiff_t>(at));
  }
  WriteAll(SystemBackend(), delta.file.get(), delta.map.data(), delta.map.size(), kMapOffset);
  return delta;
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzInput input(data, size);
  std::vector<Layer> layers = {{.is_image = true, .size = (1 + input.Take<uint32_t>() % kBlocks) * kBlockBytes}};
  std::vector<Delta> deltas;
  for (size_t i = 0; i < kDeltas; ++i) {
    deltas.push_back(MakeDelta(input, i == kDeltas - 1));
    layers.push_back(deltas.back().layer);
  }
  const Fd memfd = LiveState::Create(kBlocks * kBlockBytes, layers);
  LiveState state(memfd.get());
  BlockMap map(state);
  for (size_t slot = 0; slot < layers.size(); ++slot) map.Load(static_cast<Slot>(slot));

  const auto owner_of = [&](uint64_t block) -> Slot {
    for (size_t i = kDeltas; i > 0; --i) {
      // Behind a layer's end nothing below it is seen.
      if (block >= deltas[i - 1].layer.size / kBlockBytes) return BlockMap::kNobody;
      if (deltas[i - 1].Owns(block)) return static_cast<Slot>(i);
    }
    return block < layers[0].size / kBlockBytes ? kBottomSlot : BlockMap::kNobody;
  };
  for (uint64_t block = 0; block < kBlocks;) {
    const BlockMap::Extent extent = map.Find(block, kBlocks);
    EXPECT(extent.end > block && extent.end <= kBlocks);
    for (; block < extent.end; ++block) EXPECT(owner_of(block) == extent.owner);
  }

  // A merge looks at one layer's map by itself; what lies beyond V is its own, as zeroes.
  const Delta& one = deltas[0];
  MapWindow window(SystemBackend(), one.layer);
  for (uint64_t block = 0; block < kBlocks; block += 64) {
    const uint64_t word = window.Word(block);
    for (uint64_t bit = 0; bit < 64; ++bit) {
      const bool is_beyond = block + bit >= one.layer.size / kBlockBytes;
      EXPECT((word >> bit & 1) == (is_beyond || one.map[(block + bit) / 8] >> (block + bit) % 8 & 1));
    }
  }
  return 0;
}
