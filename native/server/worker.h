#pragma once

#include <functional>
#include <string>

#include "engine.h"
#include "options.h"
#include "ring.h"

/** What a worker is forked with. Descriptors are the keeper's, by the same numbers. */
struct WorkerOptions {
  int live_state;
  /** /dev/fuse of a connection that was made with max_read = kMaxTransfer. */
  int fuse;
  TransportKind transport = TransportKind::kFuse;
  /** Whether one ran before: its unanswered requests are asked for again. */
  bool is_restart = false;
  unsigned spin_microseconds = 0;
  /** The one file's name in the file system's root. */
  std::string file_name;
  /** Called once, before the first request: to watch the control socket on the ring (`Ring::Watch`). */
  std::function<void(Ring&, Engine&)> start_control;
};

/**
 * Serves a chain until the FUSE connection ends: then everything is flushed, and the process exits with 0. Exits with 1
 * where the next worker may fare better, and with 2 where none will: the chain can't be read, or the kernel does not
 * repeat requests.
 */
[[noreturn]] void RunWorker(const WorkerOptions& options);
