#include "merge.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "assert.h"
#include "map-window.h"
#include "temporary.h"

namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kMapOffset = kMiB;
/** Room for 32 GiB of disk. */
constexpr uint64_t kDataOffset = 2 * kMiB;

/** What a layer is in memory: block to value; 0 is a hole. */
using Blocks = std::map<uint64_t, uint64_t>;

/** A layer's file, and what it must hold. */
struct TestLayer {
  Fd file;
  Layer layer;
  Blocks blocks;

  uint64_t end() const { return layer.size / kBlockBytes; }
};

class World {
 public:
  World(uint64_t seed, int flags) : random_(seed), flags_(flags) {}

  uint64_t Below(uint64_t limit) { return random_() % limit; }

  TestLayer Make(bool is_image, uint64_t size) {
    std::string path = directory_ / std::to_string(++count_);
    TestLayer made;
    made.file = Fd(Check(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | flags_, 0600), "open", path));
    made.layer = {made.file.get(), is_image, size, is_image ? 0 : kMapOffset, is_image ? 0 : kDataOffset};
    // Behind an image's disk lies its manifest.
    uint64_t length = is_image ? size + 65536 : kDataOffset + size;
    Check(ftruncate(made.file.get(), static_cast<off_t>(length)), "ftruncate");
    if (is_image) Put(made, made.end(), kForeign);
    return made;
  }

  /** Random runs of data and, of a delta, holes that it owns; clustered at the ends of words, pages and the disk. */
  TestLayer MakeFilled(bool is_image, uint64_t size, int runs) {
    TestLayer made = Make(is_image, size);
    while (runs-- > 0) {
      uint64_t first = Below(4) == 0 ? Edge(made.end()) : Below(made.end());
      uint64_t end = std::min(made.end(), first + 1 + (Below(3) == 0 ? Below(700) : Below(4)));
      bool is_hole = Below(4) == 0;
      for (uint64_t block = first; block < end; block++) made.blocks[block] = is_hole ? 0 : ++stamp_;
    }
    for (auto [block, value] : made.blocks) {
      if (value != 0) Put(made, block, value);
    }
    if (!is_image) WriteMap(made);
    return made;
  }

  /** Data without its bit, as a copy that was cut off leaves it. */
  void Litter(TestLayer& delta, int count) {
    while (count-- > 0) {
      uint64_t block = Below(delta.end());
      if (!delta.blocks.contains(block)) Put(delta, block, kForeign);
    }
  }

  static constexpr uint64_t kForeign = 0xdead;
  static constexpr uint64_t kReplaced = 0xb10c0;

 private:
  uint64_t Edge(uint64_t end) {
    const uint64_t edges[] = {0, 63, 64, kPageBlocks - 1, kPageBlocks, MapWindow::kBlocks - 1, end - 1, end - 65};
    return edges[Below(8)] % end;
  }

  void Put(TestLayer& made, uint64_t block, uint64_t value) {
    AlignedBuffer page(kBlockBytes);
    for (size_t i = 0; i < kBlockBytes / 8; i++) static_cast<uint64_t*>(page.data())[i] = value;
    WriteAll(SystemBackend(), made.layer.fd, page.data(), kBlockBytes, made.layer.data_offset + block * kBlockBytes);
  }

  void WriteMap(TestLayer& made) {
    AlignedBuffer map((made.end() + kPageBlocks - 1) / kPageBlocks * kBlockBytes);
    for (auto [block, value] : made.blocks) static_cast<char*>(map.data())[block / 8] |= 1 << block % 8;
    WriteAll(SystemBackend(), made.layer.fd, map.data(), map.size(), kMapOffset);
  }

  std::mt19937_64 random_;
  int flags_;
  TemporaryDirectory directory_;
  int count_ = 0;
  uint64_t stamp_ = 0x1000;
};

/** Value of a block as the layer's file has it; every word of it must be the same. */
uint64_t Stored(const TestLayer& made, uint64_t block) {
  static AlignedBuffer page(kBlockBytes);
  ReadAll(SystemBackend(), made.layer.fd, page.data(), kBlockBytes, made.layer.data_offset + block * kBlockBytes);
  auto* words = static_cast<uint64_t*>(page.data());
  EXPECT(std::memcmp(words, words + 1, kBlockBytes - 8) == 0);
  return words[0];
}

/** The layer's file holds exactly its blocks: read bit by bit, with code of its own. */
void ExpectAsModel(const TestLayer& made) {
  AlignedBuffer map((made.end() + kPageBlocks - 1) / kPageBlocks * kBlockBytes);
  if (!made.layer.is_image) ReadAll(SystemBackend(), made.layer.fd, map.data(), map.size(), kMapOffset);
  for (uint64_t block = 0; block < map.size() * 8; block++) {
    bool bit = static_cast<char*>(map.data())[block / 8] >> block % 8 & 1;
    auto expected = made.blocks.find(block);
    if (!made.layer.is_image) EXPECT(bit == (expected != made.blocks.end()));
    if (expected != made.blocks.end()) EXPECT(Stored(made, block) == expected->second);
  }
  if (made.layer.is_image) EXPECT(Stored(made, made.end()) == World::kForeign);
}

/** Value in a view of layers, bottom first: the content of each ends at its V. */
uint64_t View(const std::vector<const TestLayer*>& layers, uint64_t block) {
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
    auto found = (*layer)->blocks.find(block);
    if (found != (*layer)->blocks.end()) return found->second;
    if (block >= (*layer)->end()) return 0;
  }
  return 0;
}

/** How many blocks the source has that the destination lacks. */
uint64_t CountMissing(const Layer& source, const Layer& destination) {
  MapWindow owned(SystemBackend(), source), present(SystemBackend(), destination);
  uint64_t count = 0;
  ForRuns([&](uint64_t block) { return owned.Word(block) & ~present.Word(block); }, {0, destination.size / kBlockBytes},
          [&](const Run& run) { count += run.blocks(); });
  return count;
}

/** Asserts the order that PROTOCOL asks for, and fails one call with the error of a full or broken disk. */
class Watchful : public Backend {
 public:
  Watchful(std::vector<Layer> deltas, int image, int failing_call, int error)
      : deltas_(std::move(deltas)), image_(image), calls_left_(failing_call), error_(error) {}

  ssize_t Read(int fd, void* data, size_t length, uint64_t offset) override {
    // What comes back short is asked for again.
    return Fails() ? -1 : Backend::Read(fd, data, length > 8192 ? length / 2 / 4096 * 4096 : length, offset);
  }
  ssize_t Write(int fd, const void* data, size_t length, uint64_t offset) override {
    Look(fd, offset);
    if (!Fails()) return Backend::Write(fd, data, length > 8192 ? length / 2 / 4096 * 4096 : length, offset);
    if (length > 4096) Backend::Write(fd, data, 4096, offset);  // a part of it has come through
    errno = error_;
    return -1;
  }
  int Sync(int fd) override {
    if (Fails()) return -1;
    unsynced_.erase(fd);
    return 0;  // the test takes no power cuts, and hundreds of small batches would wait for the disk
  }
  int Punch(int fd, uint64_t offset, uint64_t length) override {
    Look(fd, offset);
    return Fails() ? -1 : Backend::Punch(fd, offset, length);
  }

  bool failed() const { return calls_left_ < 0; }

 private:
  bool Fails() {
    if (calls_left_ < 0 || calls_left_-- > 0) return false;
    errno = error_;
    return true;
  }

  void Look(int fd, uint64_t offset) {
    for (const Layer& delta : deltas_) {
      bool is_map = fd == delta.fd && offset < kDataOffset;
      if (is_map) EXPECT(!unsynced_.contains(fd) || writes_map_);
      if (fd == delta.fd) writes_map_ = is_map;
      // What is saved from the image is durable, bits included, before the image changes.
      if (fd == image_) EXPECT(!unsynced_.contains(delta.fd));
    }
    unsynced_.insert(fd);
  }

  std::vector<Layer> deltas_;
  int image_;
  int calls_left_, error_;
  bool writes_map_ = false;
  std::set<int> unsynced_;
};

constexpr int kNever = INT32_MAX;

/** Batches until the end; from the block where one failed on, again. Returns the errors seen. */
std::set<int> Drive(const std::function<MergeBatch(const BatchLimits&)>& batch, uint64_t max_bytes) {
  std::set<int> errors;
  std::optional<uint64_t> next = 0;
  while (next) {
    try {
      MergeBatch done = batch({*next, max_bytes});
      EXPECT(!done.next_block || *done.next_block > *next);
      EXPECT(done.copied_bytes <= std::max<uint64_t>(max_bytes, kBlockBytes));
      next = done.next_block;
    } catch (const SystemFailure& failure) {
      errors.insert(failure.error);
    }
  }
  return errors;
}

const uint64_t kSizes[] = {kMiB, 3 * kMiB, 64 * kMiB, 128 * kMiB, 130 * kMiB, 260 * kMiB};
const uint64_t kBatches[] = {20 * 4096, 77 * 4096, 1 << 20, 64 << 20};

void TestCopyMissing(uint64_t seed, int flags) {
  World world(seed, flags);
  TestLayer source = world.MakeFilled(false, kSizes[world.Below(6)], 40);
  TestLayer destination = world.MakeFilled(false, kSizes[world.Below(6)], 20);
  world.Litter(destination, 20);
  std::vector<uint64_t> before;
  for (uint64_t block = 0; block < destination.end(); block++) {
    uint64_t value = View({&source, &destination}, block);
    bool is_own = block >= source.end() || source.blocks.contains(block) || destination.blocks.contains(block);
    if (is_own) destination.blocks[block] = value;
  }
  int error = world.Below(2) ? ENOSPC : EIO;
  Watchful backend({destination.layer}, -1, world.Below(3) ? static_cast<int>(world.Below(300)) : kNever, error);
  uint64_t max_bytes = kBatches[world.Below(4)];
  std::set<int> errors =
      Drive([&](const BatchLimits& limits) { return CopyMissing(backend, source.layer, destination.layer, limits); },
            max_bytes);
  EXPECT(errors.empty() != backend.failed() && (errors.empty() || *errors.begin() == error));
  ExpectAsModel(destination);
  ExpectAsModel(source);
  EXPECT(!CopyMissing(SystemBackend(), source.layer, destination.layer, {}).copied_bytes);
}

void TestFold(uint64_t seed, int flags) {
  World world(seed, flags);
  uint64_t old_size = kSizes[world.Below(6)];
  TestLayer source = world.MakeFilled(false, kSizes[world.Below(6)], 40);
  // The caller has grown the image to the larger V, with a hole.
  TestLayer image = world.MakeFilled(true, std::max(old_size, source.layer.size), 60);
  std::erase_if(image.blocks, [&](auto& entry) { return entry.first * kBlockBytes >= old_size; });
  if (old_size < image.layer.size) ZeroAll(SystemBackend(), image.layer.fd, old_size, image.layer.size - old_size);
  bool has_keep = world.Below(3) > 0;
  TestLayer keep = world.MakeFilled(false, old_size, world.Below(2) ? 10 : 0);
  world.Litter(keep, 20);
  auto is_folded = [&](uint64_t block) { return block >= source.end() || source.blocks.contains(block); };
  if (has_keep) {
    for (uint64_t block = 0; block < keep.end(); block++) {
      if (is_folded(block)) keep.blocks[block] = View({&image, &keep}, block);
    }
  }
  for (uint64_t block = 0; block < image.end(); block++) {
    if (is_folded(block)) image.blocks[block] = View({&source}, block);
  }
  std::vector<std::byte> block0(world.Below(2) ? kBlockBytes : 0);
  if (!block0.empty()) {
    const std::vector<uint64_t> words(kBlockBytes / 8, World::kReplaced);
    std::ranges::copy(std::as_bytes(std::span(words)), block0.begin());
    if (is_folded(0)) image.blocks[0] = World::kReplaced;
  }
  int error = world.Below(2) ? ENOSPC : EIO;
  Watchful backend({keep.layer}, image.layer.fd, world.Below(3) ? static_cast<int>(world.Below(300)) : kNever, error);
  std::optional<Layer> keep_layer;
  if (has_keep) keep_layer = keep.layer;
  std::set<int> errors = Drive(
      [&](const BatchLimits& limits) {
        return FoldBatch(backend, image.layer, source.layer, keep_layer, limits, block0);
      },
      kBatches[world.Below(4)]);
  EXPECT(errors.empty() != backend.failed() && (errors.empty() || *errors.begin() == error));
  ExpectAsModel(image);
  ExpectAsModel(source);
  ExpectAsModel(keep);
}

/** Runs are found whole, whatever words and windows they cross, and counted up to the disk's end. */
void TestRuns(uint64_t seed) {
  World world(seed, 0);
  TestLayer delta = world.MakeFilled(false, kSizes[world.Below(6)], 60);
  MapWindow window(SystemBackend(), delta.layer);
  uint64_t seen = 0;
  ForRuns([&](uint64_t block) { return window.Word(block); }, {0, delta.end()},
          [&](const Run& run) {
            EXPECT(run.first == 0 || !delta.blocks.contains(run.first - 1));
            EXPECT(run.end == delta.end() || !delta.blocks.contains(run.end));
            for (uint64_t block = run.first; block < run.end; block++) EXPECT(delta.blocks.contains(block));
            seen += run.blocks();
          });
  EXPECT(seen == delta.blocks.size());
  TestLayer empty = world.Make(false, delta.layer.size);
  EXPECT(CountMissing(delta.layer, empty.layer) == seen);
}

/** More than a window of map: 2 GiB of disk. */
void TestManyWindows() {
  World world(1, 0);
  TestLayer source = world.Make(false, 5 * MapWindow::kBlocks * kBlockBytes);
  const Run runs[] = {{1, 3}, {MapWindow::kBlocks - 1, MapWindow::kBlocks + 1}, {source.end() - 1, source.end()}};
  TestLayer destination = world.Make(false, source.layer.size);
  SetBits(SystemBackend(), source.layer, {std::begin(runs), std::end(runs)});
  MergeBatch batch = CopyMissing(SystemBackend(), source.layer, destination.layer, {});
  EXPECT(!batch.next_block && CountMissing(source.layer, destination.layer) == 0);
  EXPECT(CountMissing(destination.layer, world.Make(false, source.layer.size).layer) == 5);
}

/** A large hole that is owned stays one, and is told of in one batch. */
void TestHolesStayHoles() {
  World world(1, 0);
  TestLayer source = world.Make(false, 300 * kMiB), destination = world.Make(false, 300 * kMiB);
  SetBits(SystemBackend(), source.layer, {{0, source.end()}});
  world.Litter(destination, 50);
  MergeBatch batch = CopyMissing(SystemBackend(), source.layer, destination.layer, {});
  EXPECT(batch.copied_bytes == 0 && !batch.next_block);
  EXPECT(CountMissing(source.layer, destination.layer) == 0);
  struct stat status;
  EXPECT(fstat(destination.layer.fd, &status) == 0 && status.st_blocks * 512 <= 64 << 10);
}

/** A map's promise that the file can't keep is an error, not zeroes. */
void TestCutFile() {
  World world(1, 0);
  TestLayer source = world.MakeFilled(false, 3 * kMiB, 10), destination = world.Make(false, 3 * kMiB);
  EXPECT(ftruncate(source.layer.fd, kDataOffset + 2 * kMiB) == 0);
  EXPECT(ErrorOf([&] { CopyMissing(SystemBackend(), source.layer, destination.layer, {}); }) == EIO);
  EXPECT(CountMissing(destination.layer, destination.layer) == 0);
}

bool HasDirectIo() {
  TemporaryDirectory directory;
  return Fd(open((directory / "file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_DIRECT, 0600)).get() >= 0;
}

}  // namespace

int main() {
  for (uint64_t seed = 1; seed <= 24; seed++) {
    int flags = seed % 8 == 0 && HasDirectIo() ? O_DIRECT : 0;
    TestCopyMissing(seed, flags);
    TestFold(seed, flags);
    TestRuns(seed);
  }
  TestManyWindows();
  TestHolesStayHoles();
  TestCutFile();
}
