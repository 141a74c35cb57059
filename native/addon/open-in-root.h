#pragma once

#include <string>
#include <string_view>

#include "system.h"

/** A path split before its last component. The parent of `a` is `.`; the name of the root itself is `.`. */
struct SplitPath {
  std::string parent;
  std::string name;
};

/** Leading and trailing slashes and `.` components at both ends don't count. A path that ends in `..` is EINVAL. */
SplitPath Split(std::string_view path);

/**
 * openat2 with RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS: neither `..`, an absolute path nor a symlink leads out of
 * `root`. Never waits for the other end of a fifo. Returns -1 with errno.
 */
int TryOpenInRoot(int root, const std::string& path, int flags, unsigned mode = 0);

/** The same; throws SystemFailure. */
Fd OpenInRoot(int root, const std::string& path, int flags, unsigned mode = 0);

/** unlinkat of the last component, which is not followed. */
void RemoveInRoot(int root, const std::string& path);
