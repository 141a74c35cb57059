#pragma once

#include <cstdint>

#include "live-state.h"

/**
 * Who owns each block of the disk: the top's bits first, then the owner map. A search takes words, not bits, and leaves
 * untouched memory untouched.
 */
class BlockMap {
 public:
  /** Owns what the chain's image is too small for: zeroes. */
  static constexpr Slot kNobody = 0xff;

  explicit BlockMap(LiveState& state) : state_(state) {}

  /** Blocks from the one asked for to `end` that have one owner. */
  struct Extent {
    Slot owner;
    uint64_t end;
  };

  /** The extent that begins with a block, as far as `end` at most. */
  Extent Find(uint64_t block, uint64_t end);

  /** Whether the top owns all of [begin, end). */
  bool IsInTop(uint64_t begin, uint64_t end);

  /** Makes the top, a delta, the owner of [begin, end): map pages dirty first, then the bits. */
  void SetInTop(uint64_t begin, uint64_t end);

  /** Reads a layer's map from its file, once: the top's into its region, others' into the owner map. Throws a
   * SystemFailure. */
  void Load(Slot slot);

  // The map of a delta that is to become the top goes into the region that is free, piece by piece:
  void BeginNextTop();
  /** `map` is what the file holds from this map page on. */
  void AddToNextTop(const Layer& layer, uint64_t first_page, char* map, uint64_t pages);

  /** Carries up to this many pages of the last top's bits into the owner map. Returns whether some are left. */
  bool Merge(uint64_t pages);
  void MergeAll() { Merge(UINT64_MAX); }

  /** Gives what sealed layer `from` owns below a block to `to`. */
  void Reassign(Slot from, Slot to, uint64_t end_block);

  /** Whether sealed layer `slot` owns blocks that `above` lacks: the top, or a sealed layer, by what its file says now.
   */
  bool IsNeeded(Slot slot, Slot above);

  /** The first page at or after `page` in which a sealed layer above the bottom owns something, or the number of pages.
   */
  uint64_t NextOwnedPage(uint64_t page) const;

 private:
  Extent FindInPage(uint64_t block, uint64_t end);
  void MergePage(uint64_t page);
  void MergeMapPage(const uint64_t* bits, uint64_t page, Slot slot);
  void AddMapPage(const Layer& layer, uint64_t page, uint64_t* words, int region);

  LiveState& state_;
};
