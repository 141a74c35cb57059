#pragma once

#include <string>

/** Gives the calling process a mount namespace of its own. Mounts of the host still arrive there, none goes back. */
void UnshareMounts();

/** The same, and the detached mount `mount` (a path to an open descriptor, below /proc) lies on `rootfs` there. */
void MountPrivately(const std::string& mount, const std::string& rootfs);
