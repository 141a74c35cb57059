/**
 * What runs on several threads of Node's pool at once, and what keeper and worker share: for ThreadSanitizer, which
 * sees threads only. Both of the live state's processes are threads here, on one mapping.
 */
#include <sys/socket.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "assert.h"
#include "chain-files.h"
#include "extract.h"
#include "keeper-link.h"
#include "live-state.h"
#include "map-window.h"
#include "merge.h"
#include "open-in-root.h"
#include "sparse.h"

namespace {

constexpr uint64_t kSize = 8 * kMiB;

void WriteBlocks(const Layer& layer, const std::vector<Run>& runs, uint32_t write) {
  AlignedBuffer block(kBlockBytes);
  for (const Run& run : runs) {
    for (uint64_t at = run.first; at < run.end; at++) {
      FillBlock(static_cast<char*>(block.data()), at, write);
      WriteAll(SystemBackend(), layer.fd, block.data(), kBlockBytes, layer.data_offset + at * kBlockBytes);
    }
  }
  if (!layer.is_image) SetBits(SystemBackend(), layer, runs);
}

bool HasBlock(const Layer& layer, uint64_t block, uint32_t write) {
  AlignedBuffer found(kBlockBytes);
  ReadAll(SystemBackend(), layer.fd, found.data(), kBlockBytes, layer.data_offset + block * kBlockBytes);
  return IsBlock(static_cast<const char*>(found.data()), block, write);
}

/** An absorb and a fold of a chain of its own. */
void MergeAChain() {
  ChainFiles files;
  const Layer image = files.MakeImage("image", kSize), lower = files.MakeDelta("lower", kSize),
              top = files.MakeDelta("top", kSize);
  WriteBlocks(lower, {{10, 20}, {700, 720}}, 1);
  WriteBlocks(top, {{15, 25}}, 2);
  EXPECT(!CopyMissing(SystemBackend(), lower, top, {}).next_block);
  EXPECT(HasBlock(top, 10, 1) && HasBlock(top, 15, 2) && HasBlock(top, 719, 1));
  EXPECT(!FoldBatch(SystemBackend(), image, top, std::nullopt, {}).next_block);
  EXPECT(HasBlock(image, 10, 1) && HasBlock(image, 24, 2) && HasBlock(image, 700, 1));
}

/** A copy of a sparse file. */
void CopyAFile() {
  ChainFiles files;
  const Layer source = files.MakeImage("source", kSize), copy = files.MakeImage("copy", kSize);
  WriteBlocks(source, {{3, 5}, {900, 1000}}, 1);
  const int from = files.Reopen("source", O_RDONLY), to = files.Reopen("copy", O_RDWR);
  CopyRanges(from, to, 0, DataRanges(from, 0, kSize), false);
  EXPECT(HasBlock(copy, 4, 1) && HasBlock(copy, 999, 1) && HasBlock(copy, 5, 0));
}

void ExtractAnArchive() {
  const TemporaryDirectory root;
  std::vector<Entry> entries;
  const auto add = [&](EntryType type, const std::string& path, const std::string& target = "") {
    Entry entry;
    entry.path = path;
    entry.type = type;
    entry.target = target;
    entry.mode = 0755;
    entry.uid = getuid();
    entry.gid = getgid();
    entries.push_back(entry);
  };
  add(EntryType::kDirectory, "d");
  for (int i = 0; i < 20; i++) add(EntryType::kFile, "d/f" + std::to_string(i));
  add(EntryType::kSymlink, "l", "d");
  add(EntryType::kHardlink, "d/h", "d/f3");
  ExtractEntries(root.fd(), entries);
  EXPECT(OpenInRoot(root.fd(), "l/h", O_RDONLY).get() >= 0);
  EXPECT(ErrorOf([&] { OpenInRoot(root.fd(), "l/none", O_RDONLY); }) == ENOENT);
}

void BesideEachOther() {
  constexpr int kRounds = 3;
  std::vector<std::thread> threads;
  for (void (*body)() : {MergeAChain, MergeAChain, CopyAFile, CopyAFile, ExtractAnArchive, ExtractAnArchive}) {
    threads.emplace_back([body] {
      for (int round = 0; round < kRounds; round++) body();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

/** A worker that takes new tops and lets go of old ones, until it dies at any of its steps. */
void Work(LiveState& state, const KeeperLink& keeper, int steps) {
  const auto is_over = [&steps] { return steps-- == 0; };
  keeper.TellServing();
  for (;;) {
    if (is_over()) return;
    const int fd = keeper.Adopt(Fd(Check(open("/dev/null", O_RDWR | O_CLOEXEC), "open")));
    const std::optional<Slot> slot = state.FindFreeSlot();
    EXPECT(slot);
    state.SetLayer(*slot, {.fd = fd, .size = kSize, .map_offset = kMiB, .data_offset = 2 * kMiB});
    PendingSwitch pending{
        .slot = *slot, .directory = fd, .old_name = "a", .kept_name = "b", .next_name = "c", .top_name = "d"};
    state.SetPending(pending);
    if (is_over()) return;
    LiveState::Chain chain = state.chain();
    const Slot old = chain.top();
    chain.order[chain.length - 1] = *slot;
    state.Commit(chain);
    state.ClearPending();
    if (is_over()) return;
    const int old_fd = state.layer(old).fd;
    state.FreeSlot(old);
    if (old_fd >= 0) keeper.Release(old_fd);
  }
}

/** The keeper's part until a worker's end: at each of its calls it looks whether a switch is prepared. */
void Keep(LiveState& state, int socket) {
  for (;;) {
    try {
      const ReceivedRequest received = ReceiveKeeperRequest(socket);
      state.has_pending();
      if (received.request.verb == KeeperVerb::kServing) continue;
      const bool is_adopt = received.request.verb == KeeperVerb::kAdopt;
      AnswerKeeperRequest(socket, is_adopt ? fcntl(received.fd.get(), F_DUPFD_CLOEXEC, 512) : 0);
    } catch (const SystemFailure& failure) {
      if (failure.error == EAGAIN) {
        std::this_thread::yield();
        continue;
      }
      EXPECT(failure.error == ECONNRESET);
      return;
    }
  }
}

/** What is done when the worker is dead. */
void FreeUnused(LiveState& state) {
  state.ClearPending();
  for (size_t slot = 0; slot < kSlots; slot++) {
    const bool is_taken = state.layer(static_cast<Slot>(slot)).fd >= 0;
    if (is_taken && !state.IsInUse(static_cast<Slot>(slot))) state.FreeSlot(static_cast<Slot>(slot));
  }
}

void KeeperAndWorkers() {
  const Layer layers[] = {{.fd = -1, .is_image = true, .size = kSize},
                          {.fd = -1, .size = kSize, .map_offset = kMiB, .data_offset = 2 * kMiB}};
  const Fd memfd = LiveState::Create(kSize, layers);
  LiveState state(memfd.get());
  for (int steps = 0; steps < 12; steps++) {
    int ends[2];
    Check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), "socketpair");
    const Fd keepers(ends[0]);
    std::thread worker([&, other = ends[1]] { Work(state, KeeperLink(Fd(other)), steps); });
    Keep(state, keepers.get());
    worker.join();
    FreeUnused(state);
    close_range(512, 1023, 0);
  }
}

}  // namespace

int main() {
  BesideEachOther();
  KeeperAndWorkers();
}
