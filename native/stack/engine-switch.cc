#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "engine.h"
#include "map-window.h"

namespace {

bool CopyName(const std::string& name, char (&to)[256]) {
  if (name.empty() || name.size() >= sizeof to || name.find('/') != std::string::npos) return false;
  std::memcpy(to, name.c_str(), name.size() + 1);
  return true;
}

bool IsSameFile(int directory, const char* name, int fd) {
  struct stat by_name, by_fd;
  return fstatat(directory, name, &by_name, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &by_fd) == 0 &&
         by_name.st_dev == by_fd.st_dev && by_name.st_ino == by_fd.st_ino;
}

/** Never over another file. Returns 0 or a negative errno. */
int Rename(int directory, const char* from, const char* to) {
  return renameat2(directory, from, directory, to, RENAME_NOREPLACE) < 0 ? -errno : 0;
}

int Sync(int fd) {
  return fsync(fd) < 0 ? -errno : 0;
}

}  // namespace

void Engine::Switch(SwitchOrder order, std::function<void(int, Slot)> done) {
  Change([this, order = std::move(order), done = std::move(done)] {
    auto end = [this, done](int error, Slot slot) {
      done(error, slot);
      EndChange();
    };
    const LiveState::Chain& chain = state_.chain();
    PendingSwitch pending{};
    pending.directory = order.directory;
    std::optional<Slot> slot = state_.FindFreeSlot();
    if (chain.length == kMaxLayers || !slot) return end(-EMLINK, 0);
    if (order.top.is_image || order.top.size != chain.size || !CopyName(order.old_name, pending.old_name) ||
        !CopyName(order.kept_name, pending.kept_name) || !CopyName(order.next_name, pending.next_name) ||
        !CopyName(order.top_name, pending.top_name)) {
      return end(-EINVAL, 0);
    }
    pending.slot = *slot;
    state_.SetLayer(*slot, order.top);
    auto fail = [this, slot = *slot, end](int error) {
      if (files_[slot] >= 0) ring_.UnregisterFile(std::exchange(files_[slot], -1));
      state_.FreeSlot(slot);
      end(error, 0);
    };
    try {
      Register(*slot);
      map_.BeginNextTop();
    } catch (const SystemFailure& failure) {
      return fail(-failure.error);
    }
    uint64_t end_page = std::min(state_.pages(), (order.owned_end - 1) / kPageBlocks + 1);
    LoadNextTop(*slot, 0, end_page, [this, pending, fail, end](int error) {
      if (error) return fail(error);
      Quietly([this, pending, fail, end] {
        EndTop(pending.slot, [this, pending, fail, end](int result) {
          if (!result) result = CarryOut(pending);
          GoOn();
          if (result) return fail(result);
          MergeInBackground();
          end(0, pending.slot);
        });
      });
    });
  });
}

void Engine::LoadNextTop(Slot slot, uint64_t page, uint64_t end_page, Done done) {
  uint64_t pages = std::min<uint64_t>(end_page - page, kMaxTransfer / kBlockBytes);
  const Layer& layer = state_.layer(slot);
  auto read = [this, slot, page, pages, end_page, done = std::move(done)](int error) {
    if (error) return done(error);
    map_.AddToNextTop(state_.layer(slot), page, scratch_.transfer(), pages);
    if (page + pages < end_page) return LoadNextTop(slot, page + pages, end_page, done);
    state_.SetLoaded(slot);
    done(0);
  };
  map_read_.Start(files_[slot], scratch_.transfer(), pages * kBlockBytes, layer.map_offset + page * kBlockBytes,
                  std::move(read));
}

void Engine::EndTop(Slot next, Done done) {
  auto end = [done = std::move(done), left = std::make_shared<int>(2), first = std::make_shared<int>(0)](int error) {
    if (error && !*first) *first = error;
    if (--*left == 0) done(*first);
  };
  flushes_.Add(end);
  // The round is under way while this thread copies.
  ring_.Submit();
  end(CopyFirstBlock(next));
}

int Engine::CopyFirstBlock(Slot next) {
  const Layer& from = state_.layer(state_.chain().top());
  const Layer& to = state_.layer(next);
  if (!from.is_image && !map_.IsInTop(0, 1)) return 0;
  char* block = scratch_.transfer();
  if (pread(from.fd, block, kBlockBytes, static_cast<off_t>(from.data_offset)) != ssize_t{kBlockBytes}) return -EIO;
  ssize_t written = pwrite(to.fd, block, kBlockBytes, static_cast<off_t>(to.data_offset));
  if (written != ssize_t{kBlockBytes}) return written < 0 ? -errno : -EIO;
  return fdatasync(to.fd) < 0 ? -errno : 0;
}

int Engine::CarryOut(const PendingSwitch& pending) {
  state_.SetPending(pending);
  int directory = pending.directory;
  int error = Rename(directory, pending.old_name, pending.kept_name);
  if (!error) {
    error = Rename(directory, pending.next_name, pending.top_name);
    if (!error) {
      error = Sync(directory);
      if (!error) {
        CommitSwitch(pending.slot);
        state_.ClearPending();
        return 0;
      }
      Rename(directory, pending.top_name, pending.next_name);
    }
    Rename(directory, pending.kept_name, pending.old_name);
    // A cut may leave either names, and the next top's first block is as old as it is: nothing later may be promised.
    if (Sync(directory)) state_.SetFailed();
  }
  state_.ClearPending();
  return error;
}

void Engine::CommitSwitch(Slot slot) {
  LiveState::Chain chain = state_.chain();
  Slot sealed = chain.top();
  if (!state_.layer(sealed).is_image) chain.unmerged = sealed;
  chain.region = 1 - chain.region;
  chain.order[chain.length++] = slot;
  state_.Commit(chain);
}

void Engine::DecidePendingSwitch() {
  std::optional<PendingSwitch> pending = state_.pending();
  if (!pending) return;
  int directory = pending->directory;
  int old_top = state_.layer(state_.chain().top()).fd, next_top = state_.layer(pending->slot).fd;
  if (old_top != next_top) {
    // After the first rename it goes on: then no file is called as the top was.
    if (IsSameFile(directory, pending->kept_name, old_top) && IsSameFile(directory, pending->next_name, next_top)) {
      Rename(directory, pending->next_name, pending->top_name);
    }
    if (IsSameFile(directory, pending->top_name, next_top)) {
      CheckOn(directory, fsync(directory), "fsync");
      CommitSwitch(pending->slot);
    }
  }
  state_.ClearPending();
}
