#pragma once

#include <fcntl.h>

#include <filesystem>
#include <string>

#include "system.h"

/** An empty directory, removed with all that is in it. */
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "loopbox-XXXXXX").string();
    if (!mkdtemp(name.data())) throw SystemFailure{errno, "mkdtemp", name};
    path_ = name;
    fd_ = Fd(Check(open(name.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC), "open", name));
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;

  int fd() const { return fd_.get(); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
  Fd fd_;
};
