#include "extract.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "open-in-root.h"
#include "system.h"

namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

struct Times {
  explicit Times(int64_t ns) {
    int64_t rest = ns % kNsPerSecond;
    int64_t nanoseconds = rest < 0 ? rest + kNsPerSecond : rest;
    both[0] = both[1] = {(ns - nanoseconds) / kNsPerSecond, nanoseconds};
  }
  timespec both[2];
};

bool IsNoDirectory(int error) {
  return error == ENOTDIR || error == ELOOP;
}

bool IsSameFile(int parent, const char* name, int other_parent, const char* other_name) {
  struct stat one, other;
  return fstatat(parent, name, &one, AT_SYMLINK_NOFOLLOW) == 0 &&
         fstatat(other_parent, other_name, &other, AT_SYMLINK_NOFOLLOW) == 0 && one.st_dev == other.st_dev &&
         one.st_ino == other.st_ino;
}

void WriteAll(int fd, std::span<const std::byte> content) {
  while (!content.empty()) {
    ssize_t written = write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    content = content.subspan(Check(written, "write"));
  }
}

/** Owner before mode (chown clears the set-id bits), attributes after both (chown drops capabilities, chmod edits
 * ACLs), times last. */
void SetMetadata(int fd, const Entry& entry) {
  Check(fchown(fd, entry.uid, entry.gid), "fchown");
  Check(fchmod(fd, entry.mode & 07777), "fchmod");
  for (const ExtendedAttribute& attribute : entry.attributes) {
    Check(fsetxattr(fd, attribute.name.c_str(), attribute.value.data(), attribute.value.size(), 0), "fsetxattr");
  }
  Check(futimens(fd, Times(entry.mtime_ns).both), "futimens");
}

/** SetMetadata for what must not or can't be opened: symlinks, devices and fifos. */
void SetMetadataAt(int parent, const char* name, const Entry& entry) {
  Check(fchownat(parent, name, entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW), "fchownat");
  if (entry.type != EntryType::kSymlink) Check(fchmodat(parent, name, entry.mode & 07777, 0), "fchmodat");
  if (!entry.attributes.empty()) {
    Fd place(Check(openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), "openat"));
    // Naming the O_PATH descriptor reaches the symlink itself, where the path would be followed.
    std::string magic = "/proc/self/fd/" + std::to_string(place.get());
    for (const ExtendedAttribute& attribute : entry.attributes) {
      Check(setxattr(magic.c_str(), attribute.name.c_str(), attribute.value.data(), attribute.value.size(), 0),
            "setxattr");
    }
  }
  Check(utimensat(parent, name, Times(entry.mtime_ns).both, AT_SYMLINK_NOFOLLOW), "utimensat");
}

class Extractor {
 public:
  explicit Extractor(int root) : root_(root) {}

  void Extract(const Entry& entry) {
    const SplitPath path = Split(entry.path);
    const std::string &parent = path.parent, &name = path.name;
    if (entry.type == EntryType::kDirectory && entry.append) return SetDirectoryTimes(parent, name, entry);
    int at = Parent(parent);
    switch (entry.type) {
      case EntryType::kFile:
        MakeFile(at, name.c_str(), entry);
        break;
      case EntryType::kDirectory:
        MakeDirectory(at, parent, name, entry);
        break;
      case EntryType::kHardlink:
        MakeHardlink(at, parent, name.c_str(), entry);
        break;
      case EntryType::kSymlink:
        Create(at, name.c_str(), "symlinkat", [&] { return symlinkat(entry.target.c_str(), at, name.c_str()); });
        SetMetadataAt(at, name.c_str(), entry);
        break;
      default:
        MakeNode(at, name.c_str(), entry);
    }
    // The path of the remembered directory may have led through what was removed.
    if (removed_something_) Remember("", Fd());
    removed_something_ = false;
  }

 private:
  /** The entry's parent, made where it is missing. Entries of one directory come together, so the last one is kept. */
  int Parent(const std::string& path) {
    if (!parent_ || parent_path_ != path) Remember(path, OpenOrMakeDirectory(path));
    return parent_.get();
  }

  void Remember(std::string path, Fd fd) {
    parent_path_ = std::move(path);
    parent_ = std::move(fd);
  }

  Fd OpenOrMakeDirectory(const std::string& path) {
    Fd found(TryOpenInRoot(root_, path, O_PATH | O_DIRECTORY));
    if (found) return found;
    if (errno != ENOENT || path == ".") Check(-1, "openat2");
    auto [parent, name] = Split(path);
    Fd above = OpenOrMakeDirectory(parent);
    if (mkdirat(above.get(), name.c_str(), 0755) == 0) {
      // The umask is the process's, and a set-group-id parent hands on its group.
      Check(fchownat(above.get(), name.c_str(), 0, 0, AT_SYMLINK_NOFOLLOW), "fchownat");
      Check(fchmodat(above.get(), name.c_str(), 0755, 0), "fchmodat");
    } else if (errno != EEXIST) {
      Check(-1, "mkdirat");
    }
    return OpenInRoot(root_, path, O_PATH | O_DIRECTORY);
  }

  void Remove(int at, const char* name) {
    removed_something_ = true;
    if (unlinkat(at, name, 0) == 0) return;
    if (errno != EISDIR) Check(-1, "unlinkat");
    Check(unlinkat(at, name, AT_REMOVEDIR), "unlinkat");  // only an empty directory gives way
  }

  /** Runs `make`, once more after the removal of what has the name. */
  template <typename Make>
  int Create(int at, const char* name, const char* call, Make make) {
    int result = make();
    if (result >= 0) return result;
    if (errno != EEXIST) Check(-1, call);
    Remove(at, name);
    return Check(make(), call);
  }

  void MakeFile(int at, const char* name, const Entry& entry) {
    constexpr int kFlags = O_WRONLY | O_NOFOLLOW | O_CLOEXEC;
    Fd file;
    if (entry.append) {
      file = Fd(Check(openat(at, name, kFlags | O_APPEND | O_NONBLOCK), "openat"));
      struct stat status;
      Check(fstat(file.get(), &status), "fstat");
      if (!S_ISREG(status.st_mode)) throw SystemFailure{EINVAL, "openat"};
    } else {
      file = Fd(Create(at, name, "openat", [&] { return openat(at, name, kFlags | O_CREAT | O_EXCL, 0600); }));
    }
    WriteAll(file.get(), entry.content);
    SetMetadata(file.get(), entry);
  }

  void MakeDirectory(int at, const std::string& parent, const std::string& name, const Entry& entry) {
    constexpr int kFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    bool exists = mkdirat(at, name.c_str(), 0700) < 0;
    if (exists && errno != EEXIST) Check(-1, "mkdirat");
    Fd directory(openat(at, name.c_str(), kFlags));
    if (!directory && exists && IsNoDirectory(errno)) {
      Remove(at, name.c_str());
      Check(mkdirat(at, name.c_str(), 0700), "mkdirat");
      directory = Fd(openat(at, name.c_str(), kFlags));
    }
    SetMetadata(Check(directory.get(), "openat"), entry);
    Remember(parent == "." ? name : parent + "/" + name, std::move(directory));
  }

  void SetDirectoryTimes(const std::string& parent, const std::string& name, const Entry& entry) {
    std::string path = parent + "/" + name;
    Fd directory(TryOpenInRoot(root_, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    if (!directory && (errno == ENOENT || IsNoDirectory(errno))) return;
    Check(futimens(Check(directory.get(), "openat2"), Times(entry.mtime_ns).both), "futimens");
  }

  void MakeHardlink(int at, const std::string& parent, const char* name, const Entry& entry) {
    const SplitPath path = Split(entry.target);
    const std::string &target_parent = path.parent, &target = path.name;
    Fd opened;
    if (target_parent != parent) opened = OpenInRoot(root_, target_parent, O_PATH | O_DIRECTORY);
    int target_at = opened ? opened.get() : at;
    auto link = [&] { return linkat(target_at, target.c_str(), at, name, 0); };
    if (link() == 0) return;
    if (errno != EEXIST) Check(-1, "linkat");
    // A link to itself, or one that is there already, must not cost the file its last name.
    if (IsSameFile(target_at, target.c_str(), at, name)) return;
    if (faccessat(target_at, target.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) < 0) Check(-1, "linkat");
    Remove(at, name);
    Check(link(), "linkat");
  }

  void MakeNode(int at, const char* name, const Entry& entry) {
    mode_t type = entry.type == EntryType::kCharacter ? S_IFCHR : entry.type == EntryType::kBlock ? S_IFBLK : S_IFIFO;
    dev_t device = entry.type == EntryType::kFifo ? 0 : makedev(entry.major, entry.minor);
    Create(at, name, "mknodat", [&] { return mknodat(at, name, type | 0600, device); });
    SetMetadataAt(at, name, entry);
  }

  int root_;
  std::string parent_path_;
  Fd parent_;
  bool removed_something_ = false;
};

}  // namespace

void ExtractEntries(int root, const std::vector<Entry>& entries) {
  Extractor extractor(root);
  for (size_t i = 0; i < entries.size(); i++) {
    try {
      extractor.Extract(entries[i]);
    } catch (SystemFailure& failure) {
      failure.entry = static_cast<int>(i);
      failure.path = entries[i].path;
      throw;
    }
  }
}
