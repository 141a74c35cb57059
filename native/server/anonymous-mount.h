#pragma once

#include <cstdint>
#include <string>

#include "system.h"

/** A FUSE connection, and the root of its file system, which is mounted nowhere. */
struct AnonymousMount {
  /** /dev/fuse. Whoever holds it keeps the connection alive; requests that no one answers then hang. */
  Fd connection;
  /** O_PATH. The file system ends, and the connection with it, when this and all that is open below it are closed. */
  Fd root;
};

/** Makes one (fsopen, fsconfig, fsmount). `source` is what mount tables would show. */
AnonymousMount MountAnonymously(const std::string& source, uint32_t max_read);
