#include "live-state.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <cstring>

#include "assert.h"
#include "map-window.h"

namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

Layer Image(uint64_t size) {
  return {.fd = 100, .is_image = true, .size = size};
}
Layer Delta(uint64_t size, int fd) {
  return {.fd = fd, .size = size, .map_offset = 1 << 20, .data_offset = 64 << 20};
}

uint64_t ResidentBytes(int memfd) {
  struct stat status;
  EXPECT(fstat(memfd, &status) == 0);
  return status.st_blocks * 512;
}

void TestNoOtherChain() {
  EXPECT(ErrorOf([] { LiveState::Create(kGiB, {}); }) == EINVAL);
  const Layer delta[] = {Delta(kGiB, 3)}, images[] = {Image(kGiB), Image(kGiB)}, larger[] = {Image(2 * kGiB)},
              smaller[] = {Image(kGiB / 2)};
  EXPECT(ErrorOf([&] { LiveState::Create(kGiB, delta); }) == EINVAL);
  EXPECT(ErrorOf([&] { LiveState::Create(kGiB, images); }) == EINVAL);
  EXPECT(ErrorOf([&] { LiveState::Create(kGiB, larger); }) == EINVAL);
  EXPECT(ErrorOf([&] { LiveState::Create(kGiB, smaller); }) == EINVAL);
  EXPECT(ErrorOf([&] { LiveState::Create(kGiB + 1, larger); }) == EINVAL);
  EXPECT(ErrorOf([&] { LiveState::Create(~uint64_t{0} - 4095, larger); }) == EFBIG);
  Fd strange(Check(memfd_create("strange", MFD_CLOEXEC), "memfd_create"));
  EXPECT(ftruncate(strange.get(), 1 << 20) == 0);
  EXPECT(ErrorOf([&] { LiveState state(strange.get()); }) == EPROTO);
}

void TestAnotherMappingSeesAll() {
  const Layer layers[] = {Image(kGiB), Delta(kGiB, 101)};
  Fd memfd = LiveState::Create(kGiB, layers);
  {
    LiveState state(memfd.get());
    EXPECT(state.chain().length == 2 && state.chain().top() == 1 && state.pages() == 8);
    std::optional<Slot> slot = state.FindFreeSlot();
    EXPECT(slot == 2);
    state.SetLayer(*slot, Delta(kGiB, 102));
    EXPECT(!state.IsInUse(*slot));
    PendingSwitch pending{
        .slot = *slot, .directory = 7, .old_name = "a", .kept_name = "b", .next_name = "c", .top_name = "d"};
    state.SetPending(pending);
    EXPECT(state.IsInUse(*slot));
    state.SetPageState(0, 3, PageState::kDirty);
    state.bits(0)[3 * kPageBlocks / 64] = 5;
    state.SetFailed();
    state.SetHeld(3);
  }
  LiveState state(memfd.get());
  EXPECT(state.failed() && state.held() == 3 && !state.drop_held());
  EXPECT(state.page_state(0, 3) == PageState::kDirty && state.bits(0)[3 * kPageBlocks / 64] == 5);
  EXPECT(state.pending() && std::strcmp(state.pending()->top_name, "d") == 0 && state.pending()->directory == 7);
  LiveState::Chain chain = state.chain();
  chain.order[chain.length++] = 2;
  state.Commit(chain);
  state.ClearPending();
  EXPECT(state.chain().top() == 2 && state.IsInUse(2) && state.layer(2).fd == 102);
  state.WipeRegion(0);
  EXPECT(state.page_state(0, 3) == PageState::kUntouched && state.bits(0)[3 * kPageBlocks / 64] == 0);
}

/** Nothing that grows with the disk: 16 TiB with one bit. */
void TestOnlyTouchedMemoryIsTaken() {
  constexpr uint64_t kSize = 16384 * kGiB;
  const Layer layers[] = {Image(kSize), Delta(kSize, 101)};
  Fd memfd = LiveState::Create(kSize, layers);
  LiveState state(memfd.get());
  uint64_t page = state.pages() - 1;
  state.SetPageState(0, page, PageState::kDirty);
  state.bits(0)[page * kPageBlocks / 64] = 1;
  state.owners()[page * kPageBlocks] = 1;
  EXPECT(ResidentBytes(memfd.get()) <= 256 << 10);
}

}  // namespace

int main() {
  TestNoOtherChain();
  TestAnotherMappingSeesAll();
  TestOnlyTouchedMemoryIsTaken();
}
