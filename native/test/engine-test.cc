#include <fcntl.h>
#include <sys/stat.h>

#include "model-disk.h"

namespace {

void TestAgainstAModel(unsigned seed, int steps) {
  Disk disk(seed, seed % 2 ? kSize : 200 * kMiB);
  for (int step = 0; step < steps; step++) {
    disk.Start();
    unsigned event = disk.random()() % 1000;
    if (event < 6 && disk.layers().size() < 7) disk.Switch();
    if (event >= 10 && event < 13) disk.AbsorbIntoTop();
    if (event >= 13 && event < 15) disk.AbsorbBelow();
    if (event >= 15 && event < 17) disk.Fold();
    if (event >= 20 && event < 40) disk.StartWorker();
    if (event >= 40 && event < 42) {
      disk.Flush();
      disk.Attach();
    }
  }
  disk.CheckAll();
}

/** 126 deltas, each with a block that only it owns. */
void TestLongChain() {
  Disk disk(7);
  for (size_t layer = 1; layer < kMaxLayers; layer++) disk.AddDelta(1000 + layer);
  disk.Attach();
  disk.CheckAll();
  EXPECT(disk.state().chain().length == kMaxLayers);
  Layer next = disk.files().MakeDelta("disk.next", kSize);
  EXPECT(disk.Refused([&](Engine::Done done) {
    disk.engine().Switch({next, 0, "a", "b", "c", "d"}, [done](int error, uint8_t) { done(error); });
  }) == -EMLINK);
  disk.AbsorbBelow();
  disk.AbsorbIntoTop();
  disk.Fold();
  disk.StartWorker();
  disk.CheckAll();
}

void TestRefusals() {
  Disk disk(8);
  disk.Switch();
  disk.Switch();
  Guest::Slot& slot = disk.guest().slots()[0];
  disk.Settle();
  disk.Issue(slot, Operation::kWrite, 5000, 3);
  disk.Settle();
  disk.Switch();
  disk.Settle();
  const LiveState::Chain chain = disk.state().chain();
  auto drop = [&](uint8_t layer) {
    return disk.Refused([&](Engine::Done done) { disk.engine().Drop(layer, [done](int error, int) { done(error); }); });
  };
  EXPECT(drop(chain.order[0]) == -EINVAL);
  EXPECT(drop(chain.top()) == -EINVAL);
  EXPECT(drop(99) == -EINVAL);
  EXPECT(drop(chain.order[2]) == -EBUSY);
  EXPECT(disk.Refused([&](Engine::Done done) { disk.engine().Grow(kSize - 4096, done); }) == -EINVAL);
  EXPECT(disk.Refused([&](Engine::Done done) { disk.engine().Grow(9 * kSize, done); }) == -EFBIG);
  auto moved = [&](uint8_t layer, uint8_t into) {
    return disk.Refused([&](Engine::Done done) { disk.engine().MovedTo(layer, into, 1, done); });
  };
  EXPECT(moved(chain.order[2], kBottomSlot) == -EINVAL);
  EXPECT(moved(chain.order[1], chain.top()) == -EINVAL);
  EXPECT(moved(chain.top(), chain.order[2]) == -EINVAL);
  EXPECT(moved(kBottomSlot, chain.order[1]) == -EINVAL);
  EXPECT(moved(99, chain.order[1]) == -EINVAL);

  // Not of whole blocks, or beyond the end: refused, and nothing is read or written.
  for (auto [offset, length] : std::initializer_list<std::pair<uint64_t, uint64_t>>{
           {512, 4096}, {0, 100}, {kSize, 4096}, {kSize - 4096, 8192}, {~uint64_t{0} - 4095, 8192}, {0, 0}}) {
    slot.request.operation = Operation::kWrite;
    slot.request.offset = offset;
    slot.request.length = length;
    slot.is_busy = true;
    slot.answered = [](int error) { EXPECT(error == -EINVAL); };
    disk.engine().Handle(slot.request);
    disk.Settle();
  }
  disk.CheckAll();
}

/** A name that is taken: the switch fails, and all is as before. */
void TestSwitchOverATakenName() {
  Disk disk(9);
  disk.Switch();
  disk.Settle();
  disk.files().MakeImage("taken", kMiB);
  Layer next = disk.files().MakeDelta("disk.next", kSize);
  int directory = disk.files().Directory();
  auto attempt = [&](const char* kept, const char* top) {
    return disk.Refused([&](Engine::Done done) {
      disk.engine().Switch({next, directory, "disk.delta", kept, "disk.next", top},
                           [done](int error, uint8_t) { done(error); });
    });
  };
  EXPECT(attempt("taken", "disk.delta") == -EEXIST);
  EXPECT(attempt("kept", "taken") == -EEXIST);
  EXPECT(disk.state().chain().length == 2 && !disk.state().pending());
  struct stat status;
  EXPECT(fstatat(directory, "disk.delta", &status, 0) == 0 && fstatat(directory, "disk.next", &status, 0) == 0);
  unlinkat(directory, "disk.next", 0);
  disk.Switch();
  disk.CheckAll();
}

/** A worker's death at each step of a switch. */
void TestDeathInTheMiddleOfASwitch() {
  for (int renames = 0; renames <= 2; renames++) {
    Disk disk(10 + renames);
    for (int step = 0; step < 200; step++) disk.Start();
    disk.Flush();
    Layer next = disk.files().MakeDelta("disk.next", kSize);
    int directory = disk.files().Directory();
    uint8_t slot = *disk.state().FindFreeSlot();
    disk.state().SetLayer(slot, next);
    disk.state().SetLoaded(slot);
    PendingSwitch pending{.slot = slot,
                          .directory = directory,
                          .old_name = "disk.img",
                          .kept_name = "disk@a.img",
                          .next_name = "disk.next",
                          .top_name = "disk.delta"};
    disk.state().SetPending(pending);
    if (renames > 0) EXPECT(renameat(directory, "disk.img", directory, "disk@a.img") == 0);
    if (renames > 1) EXPECT(renameat(directory, "disk.next", directory, "disk.delta") == 0);
    disk.StartWorker();
    EXPECT(!disk.state().pending());
    EXPECT(disk.state().chain().length == (renames ? 2 : 1));
    EXPECT(disk.state().layer(slot).fd == (renames ? next.fd : -1));
    struct stat status;
    EXPECT(fstatat(directory, renames ? "disk.delta" : "disk.img", &status, 0) == 0);
    for (int step = 0; step < 200; step++) disk.Start();
    disk.CheckAll();
  }
}

/** A file that ends too early is an error, never zeroes; and a failed flush stays failed. */
void TestFailures() {
  Disk disk(20);
  disk.Switch();
  Guest::Slot& slot = disk.guest().slots()[0];
  disk.Settle();
  disk.Issue(slot, Operation::kWrite, 70000, 8);
  disk.Settle();
  EXPECT(ftruncate(disk.layers()[1].fd, static_cast<off_t>(disk.layers()[1].data_offset + 70003 * kBlockBytes)) == 0);
  slot.request.operation = Operation::kRead;
  slot.is_busy = true;
  slot.answered = [](int error) { EXPECT(error == -EIO); };
  disk.engine().Handle(slot.request);
  disk.Settle();

  disk.state().SetFailed();
  disk.StartWorker();
  EXPECT(disk.Refused([&](Engine::Done done) { disk.engine().FlushRound(done); }) == -EIO);
  slot.request.operation = Operation::kFlush;
  slot.is_busy = true;
  disk.engine().Handle(slot.request);
  disk.Settle();
}

}  // namespace

int main(int argc, char** argv) {
  TestRefusals();
  TestSwitchOverATakenName();
  TestDeathInTheMiddleOfASwitch();
  TestFailures();
  TestLongChain();
  unsigned seed = argc > 1 ? std::atoi(argv[1]) : 1;
  int steps = argc > 2 ? std::atoi(argv[2]) : 3000;
  TestAgainstAModel(seed, steps);
  TestAgainstAModel(seed + 1, steps);
}
