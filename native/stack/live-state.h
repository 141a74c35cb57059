#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "layer.h"
#include "system.h"

/** A layer's number: its place in the slot table and its byte in the owner map. */
using Slot = uint8_t;

/** The bottom of a chain always has this slot, so that the owner map begins as a hole. */
constexpr Slot kBottomSlot = 0;
constexpr size_t kMaxLayers = 127;
constexpr size_t kSlots = 128;

/** Of a page of the top's map. What is not untouched may hold bits. */
enum class PageState : uint8_t { kUntouched, kClean, kDirty, kInFlush };

/** Numbers since the first worker began. */
struct EngineCounters {
  uint64_t reads, split_reads, merged_reads;
  /** Of `writes`, those that had to set bits. */
  uint64_t writes, first_writes, zeroes;
  /** Flushes without new bits, rounds, and the flushes that these answered. */
  uint64_t plain_flushes, rounds, grouped_flushes;
  /** Requests that were held because the host was full. */
  uint64_t held;
  uint64_t workers;
};

/** A switch that has been prepared. Which of the two files bears `top` tells a new worker whether it was carried out.
 */
struct PendingSwitch {
  Slot slot;
  /** Of the directory, in keeper and worker. */
  int directory;
  char old_name[256], kept_name[256], next_name[256], top_name[256];
};

/**
 * What must outlive a worker, in a memfd that the keeper holds: the chain, the top's map, who owns each block, and
 * flags. One worker at a time maps it; it may be killed between any two instructions, and the next one goes on from
 * what is there.
 *
 * There is room for a disk of 8 times the size at first. Only what was touched takes memory.
 */
class LiveState {
 public:
  /**
   * Makes the memfd for a chain, bottom first; the last is the top. A layer's size is from then on what is seen of it:
   * no more than of any layer above it. Throws a SystemFailure.
   */
  static Fd Create(uint64_t size, std::span<const Layer> layers);

  /** Maps it. Throws EPROTO for a memfd of another version. */
  explicit LiveState(int memfd);
  ~LiveState();
  LiveState(const LiveState&) = delete;

  /** Which layers make up the disk, changed in one step by `Commit`. */
  struct Chain {
    uint64_t size;
    uint32_t length;
    /** Bottom first; the last is the top. */
    Slot order[kMaxLayers];
    /** The map region (0 or 1) that holds the top's bits. */
    uint8_t region;
    /** The slot whose bits, in the other region, are yet to be carried into the owner map, page by page; or none. */
    int16_t unmerged;

    Slot top() const { return order[length - 1]; }
  };
  static constexpr int16_t kNone = -1;

  const Chain& chain() const;
  /** Makes a changed copy the chain, by one store. */
  void Commit(const Chain& chain);

  /** A layer by its slot; `fd` is -1 where the slot is free. */
  const Layer& layer(Slot slot) const;
  /** Changes a slot that is not in use as yet, or what may change in use: `size` and `first_block`. */
  void SetLayer(Slot slot, const Layer& layer);
  void FreeSlot(Slot slot);
  /** Nothing where all are taken. */
  std::optional<Slot> FindFreeSlot() const;
  /** Whether the chain or a prepared switch needs it. */
  bool IsInUse(Slot slot) const;

  /** Whether the layer's map has been read from its file, once and for all. */
  bool IsLoaded(Slot slot) const;
  void SetLoaded(Slot slot);

  /** Room for blocks, fixed when the memfd was made. */
  uint64_t capacity_blocks() const;
  /** Map pages of the chain's size. */
  uint64_t pages() const;

  // A map region: a bit for each block, a state for each page of it. Bits of an untouched page are 0 and take no
  // memory, unless they are looked at.
  uint64_t* bits(int region) const { return bits_[region]; }
  PageState page_state(int region, uint64_t page) const { return states_[region][page]; }
  /** Ordered before and after all other stores: what a killed worker had stored is what the next one sees. */
  void SetPageState(int region, uint64_t page, PageState state) {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    states_[region][page] = state;
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  const uint8_t* page_states(int region) const { return reinterpret_cast<const uint8_t*>(states_[region]); }
  void WipeRegion(int region);

  // The owner map: of each block, the slot of the topmost sealed layer that owns it. Where no page of it was touched,
  // all blocks are the bottom's.
  Slot* owners() const { return owners_; }
  bool is_owned_above(uint64_t page) const { return owned_[page]; }
  void TouchOwners(uint64_t page) { owned_[page] = true; }

  /** A flush failed: what was answered before may be lost, and no flush succeeds any more. */
  bool failed() const;
  void SetFailed();
  /** How many requests wait because the host is full. */
  uint32_t held() const;
  void SetHeld(uint32_t count);
  /** Requests are no longer held, but fail. */
  bool drop_held() const;
  void SetDropHeld();

  /** Whether there is a prepared switch. The keeper may ask while a worker runs, but not look at it. */
  bool has_pending() const;
  std::optional<PendingSwitch> pending() const;
  void SetPending(const PendingSwitch& pending);
  void ClearPending();

  EngineCounters& counters() const;

 private:
  struct Header;

  int memfd_;
  size_t bytes_ = 0;
  Header* header_ = nullptr;
  PageState* states_[2] = {};
  bool* owned_ = nullptr;
  uint64_t* bits_[2] = {};
  Slot* owners_ = nullptr;
};
