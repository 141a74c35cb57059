#include "open-in-root.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>

SplitPath Split(std::string_view path) {
  auto strip = [&path] {
    while (path.ends_with('/') || path.ends_with("/.")) path.remove_suffix(1);
    while (path.starts_with('/') || path.starts_with("./")) path.remove_prefix(1);
  };
  strip();
  if (path.empty()) path = ".";
  size_t slash = path.rfind('/');
  std::string_view name = slash == path.npos ? path : path.substr(slash + 1);
  // A NUL would cut the name short at the system call.
  if (name == ".." || path.find('\0') != path.npos) throw SystemFailure{EINVAL, "openat2", std::string(path)};
  return {std::string(slash == path.npos ? "." : path.substr(0, slash)), std::string(name)};
}

int TryOpenInRoot(int root, const std::string& path, int flags, unsigned mode) {
  if (path.find('\0') != path.npos) {
    errno = EINVAL;
    return -1;
  }
  open_how how{};
  // openat2 refuses O_NONBLOCK beside O_PATH, which opens nothing that could block.
  how.flags = static_cast<unsigned>(flags | O_CLOEXEC | (flags & O_PATH ? 0 : O_NONBLOCK));
  how.mode = flags & O_CREAT ? mode : 0;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  // EAGAIN: somebody renamed something while `..` was resolved, and the kernel can't be sure.
  for (int tries = 0;; tries++) {
    int fd = static_cast<int>(syscall(SYS_openat2, root, path.c_str(), &how, sizeof how));
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR) || tries == 100) return fd;
  }
}

Fd OpenInRoot(int root, const std::string& path, int flags, unsigned mode) {
  return Fd(Check(TryOpenInRoot(root, path, flags, mode), "openat2", path));
}

void RemoveInRoot(int root, const std::string& path) {
  auto [parent, name] = Split(path);
  Fd directory = OpenInRoot(root, parent, O_PATH | O_DIRECTORY);
  Check(unlinkat(directory.get(), name.c_str(), 0), "unlinkat", path);
}
