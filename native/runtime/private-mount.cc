#include "private-mount.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>

#include "system.h"

void UnshareMounts() {
  Check(unshare(CLONE_NEWNS), "unshare");
  Check(mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr), "mount", "/");
}

void MountPrivately(const std::string& mount_path, const std::string& rootfs) {
  const Fd source(Check(open(mount_path.c_str(), O_PATH | O_CLOEXEC), "open", mount_path));
  UnshareMounts();
  Check(move_mount(source.get(), "", AT_FDCWD, rootfs.c_str(), MOVE_MOUNT_F_EMPTY_PATH), "move_mount", rootfs);
}
