#pragma once

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absorber.h"
#include "block-map.h"
#include "flush-rounds.h"
#include "live-state.h"
#include "map-read.h"
#include "ring.h"
#include "scratch.h"
#include "transport.h"

/** What to switch to; descriptors are those that the keeper holds by the same numbers. */
struct SwitchOrder {
  /** A delta of the disk's size. */
  Layer top;
  int directory;
  /** Names in the directory: today's top and what it is to be called; the next top and what that is to be called. */
  std::string old_name, kept_name, next_name, top_name;
  /** The next top has none of the disk's blocks from this one on: no more of its map is read. */
  uint64_t owned_end = UINT64_MAX;
};

/**
 * The data path of one chain: serves the guest's requests from the layers, on one ring, in one thread. What must
 * outlive it is in the live state. Knows neither what brings the requests nor who holds the files.
 *
 * Operations call back with 0 or a negative errno, from the ring. Those that change the chain are done one after the
 * other.
 */
class Engine {
 public:
  using Done = std::function<void(int error)>;

  /**
   * Goes on from the live state: waits for what a killed worker had sent to the files, decides a switch that was under
   * way, and reads the maps that were not read as yet. Throws a SystemFailure.
   */
  Engine(Ring& ring, LiveState& state);
  ~Engine();

  /** To be called once, before the first request. */
  void Connect(Transport& transport) {
    transport_ = &transport;
    chain_flags_ = transport.IsLinkable() ? Ring::kChained : IOSQE_FIXED_FILE;
  }

  /** Takes a request; it is answered later, or from within. */
  void Handle(Request& request);

  /** A whole round: what was answered before is durable when it ends with 0. */
  void FlushRound(Done done);

  /**
   * Lets all requests end, flushes, renames the top to `kept_name` and the next one to `top_name` (never over another
   * file), syncs the directory, and goes on with the new top. On failure the names and the top are as before. `top` is
   * the new top's slot.
   */
  void Switch(SwitchOrder order, std::function<void(int error, Slot top)> done);

  /**
   * Copies what the top lacks of the sealed delta right below it, from a block on, at most 64 MiB; then a flush round.
   * `next` is where to go on, nothing at the end. The guest's own writes win. ENOSPC is not waited for.
   */
  void AbsorbBatch(Slot slot, uint64_t from_block, std::function<void(int error, std::optional<uint64_t> next)> done);

  /**
   * From now on reads what `slot` owns below `block` from `into`, which has it all: the image right below, or the layer
   * right above. When it calls back, no read of `slot` below `block` is under way.
   */
  void MovedTo(Slot slot, Slot into, uint64_t block, Done done);

  /**
   * Takes a sealed layer out of the chain. EBUSY if it owns a block that the layer above it lacks. `fd` is the
   * descriptor that is no longer needed.
   */
  void Drop(Slot slot, std::function<void(int error, int fd)> done);

  /** The disk has a new size, which the top's file has room for. EFBIG where the live state has none. */
  void Grow(uint64_t size, Done done);

  /** Requests that wait for space fail, and so do later ones without space. */
  void ReleaseHeld();

  /** The end: lets what is under way end, and flushes a last time. Called once; nothing is handled afterwards. */
  void Finish(Done done);

  /** Gives memory back that is needed under load only. `trim` does the same for the transport, while no request is
   * under way. */
  void Rest(std::function<void()> trim);

  LiveState& state() { return state_; }

 private:
  friend class Request;
  friend class Absorber;

  /**
   * What of a request has completed: the first entry of its chain (if there is one, told of only when it failed or was
   * short), one of several reads, one piece of a request that is done piece by piece, or a write that has bits to set.
   */
  enum Kind : unsigned { kChain, kPart, kPiece, kFirst };

  // engine.cc
  void DrainFiles();
  void MergeInBackground();
  void Register(Slot slot);
  bool IsValid(const Request& request) const;
  void Complete(Request& request, unsigned kind, int result);
  void Answer(Request& request, int error);
  /** Answers with the end of the entry before, which was sent with `chain_flags_`; where that can't be, `Complete`
   * does. */
  void AnswerBehind(Request& request);
  /** Of a read or write that ended with an error: tries it again, holds it, or answers. */
  void Fail(Request& request, int error);
  io_uring_sqe* Send(Request& request, unsigned kind, uint8_t opcode, Slot slot, uint64_t offset, char* data,
                     uint64_t length, unsigned flags);
  void Flush(Request& request);
  // A request done from its start again, one piece after the other, as far as each one comes: where something was
  // short.
  void StartPieces(Request& request);
  void NextPiece(Request& request);
  void EndPiece(Request& request, int result);

  // engine-read.cc
  void Read(Request& request);
  void ReadParts(Request& request);
  void SendPart(Request& request, Slot slot, uint64_t block, char* data, uint64_t length);
  /** Returns false where it has few pieces, or more than two owners. */
  bool ReadTwoLayers(Request& request);
  void EndPart(Request& request, int result);
  /** Returns false where there was nothing to read: zeroes. */
  bool SendReadPiece(Request& request);

  // engine-write.cc
  void Write(Request& request);
  void Zero(Request& request);
  void SendPunch(Request& request, unsigned kind);
  /** Returns false where it has to wait for an absorb. */
  bool BeginFirstWrite(Request& request);
  void EndFirstWrite(Request& request);
  void EndFirst(Request& request, int result);
  /** The data is there: the bits, then the answer. */
  void Wrote(Request& request);
  void Hold(Request& request);
  void Probe();
  void GoOnWithHeld();

  // engine-changes.cc
  /** Runs `body` after the changes before it; it calls `EndChange` at its end. */
  void Change(std::function<void()> body);
  void EndChange();
  /** Runs `body` when no request is under way; it calls `GoOn`. */
  void Quietly(std::function<void()> body);
  void GoOn();

  // engine-switch.cc
  void LoadNextTop(Slot slot, uint64_t page, uint64_t end_page, Done done);
  /**
   * While no request is under way: a flush round of the top, and the first block of the next one. What waits in the
   * frozen guest waits for the longer of the two.
   */
  void EndTop(Slot next, Done done);
  /**
   * The next top owns the disk's first block from the start, which the guest may have changed since it was prepared:
   * copies it, durably. Returns 0 or a negative errno.
   */
  int CopyFirstBlock(Slot next);
  /** Renames and goes on with the new top; on failure all is as before. Returns 0 or a negative errno. */
  int CarryOut(const PendingSwitch& pending);
  void CommitSwitch(Slot slot);
  void DecidePendingSwitch();

  Ring& ring_;
  LiveState& state_;
  BlockMap map_;
  Scratch scratch_;
  FlushRounds flushes_;
  Absorber absorber_;
  MapRead map_read_;
  Transport* transport_ = nullptr;
  unsigned chain_flags_ = 0;

  std::array<int, kSlots> files_;
  /** First writes and zeroing under way, which an absorb must not overlap. */
  std::vector<Request*> first_writes_;
  std::vector<Request*> held_;
  bool is_probing_ = false, is_quiet_ = false, is_merging_ = false;
  std::deque<std::function<void()>> changes_;
};
