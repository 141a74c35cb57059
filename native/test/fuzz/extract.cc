/**
 * Entries of an archive, one a line: a letter for the type, `PATH>TARGET`. Whatever they are, nothing changes outside
 * of the directory that they are extracted to.
 */
#include "extract.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "assert.h"
#include "fuzz-input.h"
#include "temporary.h"

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kContent = "content";
constexpr size_t kMaxEntries = 30;

Entry ParseEntry(const std::string& text) {
  FuzzInput line(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  Entry entry;
  const char type = line.Take<char>();
  entry.append = type == 'A' || type == 'D';
  // Sockets and devices would need root; a fifo is made in the same way.
  entry.type = type == 'd' || type == 'D' ? EntryType::kDirectory
               : type == 's'              ? EntryType::kSymlink
               : type == 'h'              ? EntryType::kHardlink
               : type == 'p'              ? EntryType::kFifo
                                          : EntryType::kFile;
  entry.path = line.TakeUntil('>');
  entry.target = line.TakeUntil('>');
  entry.mode = entry.type == EntryType::kDirectory ? 0755 : 0644;
  entry.uid = getuid();
  entry.gid = getgid();
  entry.mtime_ns = 1'700'000'000'000'000'000;
  if (entry.type == EntryType::kFile) entry.content = std::as_bytes(std::span(kContent));
  return entry;
}

/** What there is of the world outside: each file's name, kind, number of links, mode, times and length. */
std::string Outside(const fs::path& directory) {
  std::string all;
  for (const auto& file : fs::recursive_directory_iterator(directory)) {
    struct stat status;
    EXPECT(lstat(file.path().c_str(), &status) == 0);
    all += file.path().string() + " " + std::to_string(status.st_mode) + " " + std::to_string(status.st_nlink) + " " +
           std::to_string(status.st_mtim.tv_sec) + " " + std::to_string(status.st_mtim.tv_nsec) + " " +
           std::to_string(status.st_size) + "\n";
  }
  return all;
}

struct World {
  TemporaryDirectory directory;
  fs::path root = directory / "root", outside = directory / "outside";
  std::string before;

  World() {
    fs::create_directories(outside / "sub");
    std::ofstream(outside / "file") << "untouched";
    before = Outside(outside);
  }
};

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const World* const world = new World;  // of the whole run
  static const int cleaned = std::atexit([] { fs::remove_all(world->directory / ""); });
  EXPECT(cleaned == 0);
  fs::remove_all(world->root);
  fs::create_directory(world->root);
  const Fd root(Check(open(world->root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC), "open"));
  FuzzInput input(data, size);
  std::vector<Entry> entries;
  while (!input.IsEmpty() && entries.size() < kMaxEntries) entries.push_back(ParseEntry(input.TakeUntil('\n')));
  const int error = ErrorOf([&] { ExtractEntries(root.get(), entries); });
  EXPECT(error >= 0);
  EXPECT(Outside(world->outside) == world->before);
  // Beside the two there is nothing.
  EXPECT(std::distance(fs::directory_iterator(world->directory / ""), fs::directory_iterator()) == 2);
  return 0;
}
