#include <cstring>
#include <random>

#include "assert.h"
#include "bits.h"
#include "block-map.h"
#include "chain-files.h"
#include "map-window.h"

namespace {

constexpr uint64_t kSize = 300 * kMiB, kBlocks = kSize / kBlockBytes;

void TestSearches() {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; round++) {
    std::vector<uint64_t> words(8);
    uint64_t begin = random() % 512, end = begin + random() % (513 - begin);
    SetBitRange(words.data(), begin, end);
    for (uint64_t bit = 0; bit < 512; bit++) EXPECT(IsSet(words.data(), bit) == (bit >= begin && bit < end));
    uint64_t from = random() % 512, limit = from + random() % (513 - from);
    auto expected = [&](bool value) {
      uint64_t bit = from;
      while (bit < limit && IsSet(words.data(), bit) != value) bit++;
      return bit;
    };
    EXPECT(NextBit<true>(words.data(), from, limit) == expected(true));
    EXPECT(NextBit<false>(words.data(), from, limit) == expected(false));

    std::vector<uint8_t> owners(520, 7);
    uint64_t other = random() % 512;
    owners[other] = 9;
    uint64_t next = from + 1;
    while (next < limit && owners[next] == owners[from]) next++;
    if (from < limit) EXPECT(NextOther(owners.data(), from, limit) == next);
  }
}

/** Puts runs into a delta's map; what is set is told to `body`. */
template <typename Body>
void SetRandomRuns(std::mt19937& random, const Layer& layer, Body body) {
  AlignedBuffer map((kBlocks + 32767) / 32768 * 4096);
  auto* words = static_cast<uint64_t*>(map.data());
  for (int run = 0; run < 40; run++) {
    // Around the boundary of the map pages, too.
    uint64_t first = run % 2 ? kPageBlocks - 200 + random() % 300 : random() % (kBlocks - 3000);
    uint64_t end = first + 1 + random() % (run % 5 ? 100 : 2000);
    SetBitRange(words, first, end);
    for (; first < end; first++) body(first);
  }
  WriteAll(SystemBackend(), layer.fd, map.data(), map.size(), layer.map_offset);
}

void ExpectOwners(BlockMap& map, const std::vector<Slot>& owners) {
  for (uint64_t block = 0; block < kBlocks;) {
    BlockMap::Extent extent = map.Find(block, kBlocks);
    EXPECT(extent.end > block && extent.end <= kBlocks);
    EXPECT(extent.end == kBlocks || owners[extent.end] != extent.owner);
    for (; block < extent.end; block++) EXPECT(owners[block] == extent.owner);
  }
}

/** Nothing of larger layers is seen behind the end of a smaller one that stands on them. */
void TestOwnersBehindAnEnd() {
  std::mt19937 random(3);
  constexpr uint64_t kEnd = 100 * kMiB;
  ChainFiles files;
  const Layer layers[] = {files.MakeImage("image", kSize), files.MakeDelta("long", kSize),
                          files.MakeDelta("short", kEnd), files.MakeDelta("top", kSize)};
  std::vector<Slot> owners(kBlocks, kBottomSlot);
  for (Slot slot : {1, 2}) SetRandomRuns(random, layers[slot], [&](uint64_t block) { owners[block] = slot; });
  std::fill(owners.begin() + kEnd / kBlockBytes, owners.end(), BlockMap::kNobody);
  SetRandomRuns(random, layers[3], [&](uint64_t block) { owners[block] = 3; });
  Fd memfd = LiveState::Create(kSize, layers);
  LiveState state(memfd.get());
  BlockMap map(state);
  for (Slot slot = 0; slot <= 3; slot++) map.Load(slot);
  ExpectOwners(map, owners);
}

/** Layers of which the bottom is smaller than the disk; switches, merges, a fold and a drop. */
void TestOwnersOfAChain() {
  std::mt19937 random(2);
  ChainFiles files;
  std::vector<Layer> layers = {files.MakeImage("image", 200 * kMiB)};
  std::vector<Slot> owners(kBlocks, BlockMap::kNobody);
  std::fill_n(owners.begin(), 200 * kMiB / kBlockBytes, kBottomSlot);
  for (Slot slot = 1; slot <= 3; slot++) {
    layers.push_back(files.MakeDelta("delta-" + std::to_string(slot), kSize));
    SetRandomRuns(random, layers.back(), [&](uint64_t block) { owners[block] = slot; });
  }
  Fd memfd = LiveState::Create(kSize, layers);
  LiveState state(memfd.get());
  BlockMap map(state);
  for (Slot slot = 0; slot <= 3; slot++) map.Load(slot);
  ExpectOwners(map, owners);

  auto write = [&](Slot top) {
    for (int i = 0; i < 30; i++) {
      uint64_t first = random() % (kBlocks - 300), end = first + 1 + random() % 300;
      map.SetInTop(first, end);
      EXPECT(map.IsInTop(first, end));
      std::fill(owners.begin() + first, owners.begin() + end, top);
    }
  };
  write(3);
  ExpectOwners(map, owners);

  // A switch: the last top's bits are carried over when they are met, or bit by bit, with a worker's death in between.
  for (Slot slot = 4; slot <= 6; slot++) {
    Layer next = files.MakeDelta("delta-" + std::to_string(slot), kSize);
    state.SetLayer(slot, next);
    map.BeginNextTop();
    LiveState::Chain chain = state.chain();
    chain.unmerged = chain.top();
    chain.region = 1 - chain.region;
    chain.order[chain.length++] = slot;
    state.Commit(chain);
    write(slot);
    if (slot == 5) EXPECT(map.Merge(1));
    LiveState again(memfd.get());
    BlockMap other(again);
    ExpectOwners(other, owners);
    ExpectOwners(map, owners);
    EXPECT(!map.Merge(1000));
  }
  ExpectOwners(map, owners);

  // The fold of 1 into the image, half of the way.
  Layer image = state.layer(kBottomSlot);
  image.size = kSize;
  state.SetLayer(kBottomSlot, image);
  for (Slot& owner : owners) owner = owner == BlockMap::kNobody ? kBottomSlot : owner;
  map.Reassign(1, kBottomSlot, kBlocks / 2);
  for (uint64_t block = 0; block < kBlocks / 2; block++)
    owners[block] = owners[block] == 1 ? kBottomSlot : owners[block];
  ExpectOwners(map, owners);

  // 2 is needed until the file of 3 has all of it.
  EXPECT(map.IsNeeded(2, 3));
  AlignedBuffer everything((kBlocks + 32767) / 32768 * 4096);
  std::memset(everything.data(), 0xff, everything.size());
  WriteAll(SystemBackend(), state.layer(3).fd, everything.data(), everything.size(), state.layer(3).map_offset);
  EXPECT(!map.IsNeeded(2, 3));
  EXPECT(map.IsNeeded(5, 6));
}

/** Bits below the first block of a layer that is being folded no longer count. */
void TestFirstBlock() {
  ChainFiles files;
  std::vector<Layer> layers = {files.MakeImage("image", kSize), files.MakeDelta("a", kSize),
                               files.MakeDelta("b", kSize)};
  AlignedBuffer map((kBlocks + 32767) / 32768 * 4096);
  SetBitRange(static_cast<uint64_t*>(map.data()), 100, 40000);
  WriteAll(SystemBackend(), layers[1].fd, map.data(), map.size(), layers[1].map_offset);
  layers[1].first_block = 33333;
  Fd memfd = LiveState::Create(kSize, layers);
  LiveState state(memfd.get());
  BlockMap owners(state);
  for (Slot slot = 0; slot < 3; slot++) owners.Load(slot);
  BlockMap::Extent extent = owners.Find(0, kBlocks);
  EXPECT(extent.owner == 0 && extent.end == 33333);
  extent = owners.Find(extent.end, kBlocks);
  EXPECT(extent.owner == 1 && extent.end == 40000);
}

}  // namespace

int main() {
  TestSearches();
  TestOwnersOfAChain();
  TestOwnersBehindAnEnd();
  TestFirstBlock();
}
