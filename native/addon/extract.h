#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

enum class EntryType { kFile, kDirectory, kSymlink, kHardlink, kCharacter, kBlock, kFifo };

struct ExtendedAttribute {
  std::string name;
  std::span<const std::byte> value;
};

/** NativeEntry of src/native.ts. `content` and the attributes' values belong to the caller. */
struct Entry {
  std::string path;
  EntryType type = EntryType::kFile;
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t mtime_ns = 0;
  std::string target;
  uint32_t major = 0;
  uint32_t minor = 0;
  std::span<const std::byte> content;
  bool append = false;
  std::vector<ExtendedAttribute> attributes;
};

/** Makes the entries below `root`, in order. The SystemFailure of the first that fails carries its index. */
void ExtractEntries(int root, const std::vector<Entry>& entries);
