#pragma once

#include <string>

#include "system.h"

/**
 * A locked file that says: a file system may be frozen for its maker. One that is there without a lock was left by a
 * maker that was killed; the next maker takes it over, with what it notes. It is unlinked with its scope.
 */
class FreezeMarker {
 public:
  /** Waits for an earlier maker for at most `patience_ms`, then throws EWOULDBLOCK. */
  FreezeMarker(std::string path, int patience_ms);
  ~FreezeMarker();
  FreezeMarker(const FreezeMarker&) = delete;
  FreezeMarker& operator=(const FreezeMarker&) = delete;

  /** Makes one character its content, for who finds it. */
  void Note(char note);
  /** Whether that is its content: this maker's, or one's before that was killed. */
  bool Notes(char note) const;

 private:
  std::string path_;
  Fd file_;
};
