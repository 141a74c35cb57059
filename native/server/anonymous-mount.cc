#include "anonymous-mount.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/syscall.h>

#include <utility>

AnonymousMount MountAnonymously(const std::string& source, uint32_t max_read) {
  Fd connection(Check(open("/dev/fuse", O_RDWR | O_CLOEXEC), "open", "/dev/fuse"));
  const Fd context(Check(static_cast<int>(syscall(SYS_fsopen, "fuse", FSOPEN_CLOEXEC)), "fsopen", "fuse"));
  const std::pair<const char*, std::string> options[] = {
      {"source", source}, {"fd", std::to_string(connection.get())}, {"rootmode", "40000"}, {"user_id", "0"},
      {"group_id", "0"},  {"max_read", std::to_string(max_read)}};
  for (const auto& [key, value] : options) {
    Check(syscall(SYS_fsconfig, context.get(), FSCONFIG_SET_STRING, key, value.c_str(), 0), "fsconfig", key);
  }
  Check(syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0), "fsconfig", "create");
  Fd root(Check(static_cast<int>(syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC,
                                         MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)),
                "fsmount"));
  return {std::move(connection), std::move(root)};
}
