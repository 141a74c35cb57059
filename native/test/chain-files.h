#pragma once

#include <fcntl.h>

#include <string>
#include <vector>

#include "aligned-buffer.h"
#include "assert.h"
#include "backend.h"
#include "layer.h"
#include "temporary.h"

constexpr uint64_t kMiB = 1 << 20;

/** The block's content: which block it is, and which write of it. Write 0 is a block of zeroes. */
inline void FillBlock(char* data, uint64_t block, uint32_t write) {
  auto* words = reinterpret_cast<uint64_t*>(data);
  for (uint64_t i = 0; i < kBlockBytes / 8; i++) words[i] = write ? block << 40 | uint64_t{write} << 9 | i : 0;
}

inline bool IsBlock(const char* data, uint64_t block, uint32_t write) {
  const auto* words = reinterpret_cast<const uint64_t*>(data);
  for (uint64_t i = 0; i < kBlockBytes / 8; i++) {
    if (words[i] != (write ? block << 40 | uint64_t{write} << 9 | i : 0)) return false;
  }
  return true;
}

/** The files of a chain in a directory of their own. */
class ChainFiles {
 public:
  /** A sparse image, open for direct I/O where the file system has it. */
  Layer MakeImage(const std::string& name, uint64_t size) {
    Layer layer{.fd = Make(name, size + 64 * 1024), .is_image = true, .size = size};
    return layer;
  }

  /** A delta that owns nothing. */
  Layer MakeDelta(const std::string& name, uint64_t size) {
    uint64_t room = (size / 4096 + 4095) / 4096 * 4096;
    Layer layer{.size = size, .map_offset = kMiB, .data_offset = kMiB + (room + kMiB - 1) / kMiB * kMiB};
    layer.fd = Make(name, layer.data_offset + size);
    return layer;
  }

  /** Opens a file of a layer a second time, as something that reads through the page cache does. */
  int Reopen(const std::string& name, int flags) {
    files_.emplace_back(Check(open((directory_ / name).c_str(), flags | O_CLOEXEC), "open", name));
    return files_.back().get();
  }

  const TemporaryDirectory& directory() const { return directory_; }
  int Directory() { return Reopen(".", O_RDONLY | O_DIRECTORY); }

 private:
  int Make(const std::string& name, uint64_t bytes) {
    std::string path = directory_ / name;
    int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_DIRECT, 0600);
    if (fd < 0 && errno == EINVAL) fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    files_.emplace_back(Check(fd, "open", path));
    Check(ftruncate(fd, static_cast<off_t>(bytes)), "ftruncate");
    return fd;
  }

  TemporaryDirectory directory_;
  std::vector<Fd> files_;
};
