#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "ring.h"
#include "transport.h"

class Engine;

/**
 * Copies blocks of the layer below the top into the top, while the guest writes. The blocks of the piece under way are
 * locked: what the guest writes there is parked until the piece has its bits. What the guest is already writing is
 * waited for.
 */
class Absorber final : public Completion {
 public:
  using Done = std::function<void(int error, std::optional<uint64_t> next)>;

  /** What one batch copies at most. */
  static constexpr uint64_t kBatchBlocks = (64 << 20) / kBlockBytes;

  explicit Absorber(Engine& engine) : engine_(engine) {}

  /** `slot` is a sealed delta, right below the top, which is a delta, too. */
  void Start(uint8_t slot, uint64_t from_block, Done done);

  bool IsLocked(uint64_t begin, uint64_t end) const { return begin < end_ && begin_ < end; }
  /** Hands the request to the engine again when the lock is gone. */
  void Park(Request& request) { parked_.push_back(&request); }
  /** A first write of the guest has ended. */
  void FirstWriteEnded();

  void Complete(unsigned kind, int result, unsigned flags) override;

 private:
  enum Kind : unsigned { kRead, kWrite, kPunch };

  void NextPiece();
  /** Ends the piece that begins with `next_` where a hole of the source begins or ends. Returns whether it is a hole.
   */
  bool CutAtHole(uint64_t& end) const;
  /** Sends the entry for what is left of the piece. */
  void Send(Kind kind);
  void EndPiece(int error);
  void End(int error, std::optional<uint64_t> next);

  Engine& engine_;
  Done done_;
  uint8_t slot_ = 0;
  /** The piece under way, locked; empty where there is none. */
  uint64_t begin_ = 0, end_ = 0;
  /** Bytes of it that were read or written. */
  uint64_t piece_done_ = 0;
  uint64_t next_ = 0, budget_ = 0;
  bool is_waiting_ = false;
  std::vector<Request*> parked_;
};
