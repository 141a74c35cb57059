#pragma once

#include <memory>
#include <optional>
#include <set>

#include "anonymous-mount.h"
#include "keeper-link.h"
#include "live-state.h"
#include "options.h"
#include "system.h"

/**
 * Holds whatever must outlive a worker: the layers, the live state, the FUSE connection, the control socket and the
 * guard. It starts a worker, and another when that dies; data never passes through it.
 */
class Keeper {
 public:
  explicit Keeper(ServerOptions options);

  /**
   * Waits for the starter's byte on descriptor 3, sets everything up, and tells the starter on descriptor 4: `ready
   * ROOT START` (the descriptor of the file system's root, its own start time) or `error TEXT`. Once the starter has
   * opened the file it writes another byte, or dies: from then on the file's users alone keep the server. Returns the
   * exit code.
   */
  int Run();

 private:
  void SetUp();
  void StartWorker(bool is_restart);
  [[noreturn]] void BecomeWorker(Fd link, bool is_restart);
  /** Until the last worker's end. */
  int Supervise();
  /** Returns the exit code where there will be no other worker. */
  std::optional<int> HandleDeath();
  void ServeWorker();
  int Answer(ReceivedRequest received);
  void LetGoOfStarter();
  /** Closes what no slot needs: a worker died between a descriptor's way here and its use, or its last use and its
   * release. */
  void CloseUnused();
  void Tell(const std::string& line) const;

  const ServerOptions options_;
  Fd go_;
  Fd ready_;
  Fd guard_;
  Fd live_memfd_;
  std::unique_ptr<LiveState> live_;
  Fd control_;
  AnonymousMount mount_;
  /** Layers, and the directory of a switch. */
  std::set<int> held_;
  /** The directory of a switch that a worker died over; or -1. */
  int undecided_ = -1;

  Fd worker_;
  pid_t worker_pid_ = -1;
  Fd link_;
  std::optional<uint64_t> serving_since_ms_;
  /** How many workers, one after the other, died at once. */
  int deaths_at_once_ = 0;
};
