#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "live-state.h"
#include "ring.h"
#include "scratch.h"

/**
 * Flush rounds: new bits set aside, the data made durable, exactly those map pages written, and made durable. Whoever
 * comes during a round waits for the next, which all that wait share. After a failure all fail.
 */
class FlushRounds final : public Completion {
 public:
  using Done = std::function<void(int error)>;

  /** `files` tells the registered file of a slot. */
  FlushRounds(Ring& ring, LiveState& state, Scratch& scratch, const std::array<int, kSlots>& files)
      : ring_(ring), state_(state), scratch_(scratch), files_(files) {}

  /** Whether a flush that comes now needs no round: there are no new bits, and nobody to wait for. */
  bool IsPlain() const;
  /** The entry of such a flush: an fdatasync of the top. */
  void SendPlain(Completion* completion, unsigned kind, unsigned flags);

  /** Calls back at the end of the next round. */
  void Add(Done done);
  bool is_running() const { return is_running_; }

  void Complete(unsigned kind, int result, unsigned flags) override;

 private:
  enum Kind : unsigned { kSync, kMapWrite };

  void Start();
  void SendBatch();
  void EndBatch();
  void SendSync(Completion* completion, unsigned kind, unsigned flags);
  bool HasDirty(uint64_t from_page) const;

  Ring& ring_;
  LiveState& state_;
  Scratch& scratch_;
  const std::array<int, kSlots>& files_;
  std::vector<Done> waiting_, in_round_;
  bool is_running_ = false;
  unsigned under_way_ = 0;
  bool has_failed_ = false;
  /** Of the batch: bytes of map pages that are still to be written. */
  int64_t to_write_ = 0;
  /** The batch's map pages, and the first one that this round has not looked at. */
  uint64_t first_page_ = 0, next_page_ = 0;
};
