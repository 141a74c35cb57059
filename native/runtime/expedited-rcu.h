#pragma once

#include "freeze-marker.h"
#include "system.h"

/**
 * While it lives, the kernel's grace periods are expedited (/sys/kernel/rcu_expedited, unless it is set already or
 * can't be). FIFREEZE waits for three of them, for two with writers held back already: some 10 ms each on an idle
 * machine, together less than 1 ms when expedited; a move to another cgroup waits for one. The marker says so for the
 * case that nobody comes to set it back: the next maker of the marker does, or whoever finds the marker.
 */
class ExpeditedRcu {
 public:
  explicit ExpeditedRcu(FreezeMarker& marker);
  ~ExpeditedRcu();
  /** Sets it back where the marker was left by a maker that was killed before it could. */
  static void SetBackLeftover(FreezeMarker& marker);
  ExpeditedRcu(const ExpeditedRcu&) = delete;
  ExpeditedRcu& operator=(const ExpeditedRcu&) = delete;

 private:
  FreezeMarker& marker_;
  Fd switch_;
  bool is_set_ = false;
};
