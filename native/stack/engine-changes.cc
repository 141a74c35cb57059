#include <algorithm>
#include <cerrno>
#include <utility>

#include "engine.h"

void Engine::Change(std::function<void()> body) {
  changes_.push_back(std::move(body));
  if (changes_.size() == 1) changes_.front()();
}

void Engine::EndChange() {
  // Keeps alive what is being executed.
  std::function<void()> ended = std::move(changes_.front());
  changes_.pop_front();
  if (!changes_.empty()) changes_.front()();
}

void Engine::Quietly(std::function<void()> body) {
  is_quiet_ = true;
  transport_->Quiesce(std::move(body));
}

void Engine::GoOn() {
  is_quiet_ = false;
  transport_->Resume();
}

void Engine::AbsorbBatch(Slot slot, uint64_t from_block, std::function<void(int, std::optional<uint64_t>)> done) {
  Change([this, slot, from_block, done = std::move(done)] {
    const LiveState::Chain& chain = state_.chain();
    if (chain.length < 3 || chain.order[chain.length - 2] != slot) {
      done(-EINVAL, std::nullopt);
      return EndChange();
    }
    absorber_.Start(slot, from_block, [this, done](int error, std::optional<uint64_t> next) {
      done(error, next);
      EndChange();
    });
  });
}

void Engine::MovedTo(Slot slot, Slot into, uint64_t block, Done done) {
  Change([this, slot, into, block, done = std::move(done)] {
    const LiveState::Chain& chain = state_.chain();
    const Slot* end = chain.order + chain.length;
    const Slot* found = std::find(chain.order, end, slot);
    bool is_between = found != end && found != chain.order && found + 1 != end;
    bool is_fold = is_between && into == kBottomSlot && found[-1] == into;
    if (!is_fold && !(is_between && found[1] == into)) {
      done(-EINVAL);
      return EndChange();
    }
    Quietly([this, slot, into, is_fold, block, done] {
      Layer source = state_.layer(slot);
      if (is_fold) {
        Layer image = state_.layer(into);
        // The image has been given the larger V before its first block was written.
        image.size = std::max(image.size, source.size);
        state_.SetLayer(into, image);
      }
      // What the top has is not looked up below it.
      map_.Reassign(slot, into == state_.chain().top() ? kBottomSlot : into, block);
      source.first_block = std::max(source.first_block, block);
      state_.SetLayer(slot, source);
      GoOn();
      done(0);
      EndChange();
    });
  });
}

void Engine::Drop(Slot slot, std::function<void(int, int)> done) {
  Change([this, slot, done = std::move(done)] {
    const LiveState::Chain& chain = state_.chain();
    const Slot* end = chain.order + chain.length;
    const Slot* found = std::find(chain.order, end, slot);
    int error = 0;
    if (found == end || found == chain.order || found == end - 1) error = -EINVAL;
    try {
      if (!error && map_.IsNeeded(slot, found[1])) error = -EBUSY;
    } catch (const SystemFailure& failure) {
      error = -failure.error;
    }
    if (error) {
      done(error, -1);
      return EndChange();
    }
    Quietly([this, slot, done] {
      LiveState::Chain chain = state_.chain();
      Slot* end = chain.order + chain.length;
      Slot* found = std::find(chain.order, end, slot);
      // What the top has is not looked up below it; the bottom stands for no one there.
      map_.Reassign(slot, found[1] == chain.top() ? kBottomSlot : found[1], UINT64_MAX);
      // Reassign may have ended the merge of the last top.
      chain.unmerged = state_.chain().unmerged;
      std::copy(found + 1, end, found);
      chain.length--;
      state_.Commit(chain);
      int fd = state_.layer(slot).fd;
      state_.FreeSlot(slot);
      ring_.UnregisterFile(std::exchange(files_[slot], -1));
      GoOn();
      done(0, fd);
      EndChange();
    });
  });
}

void Engine::Grow(uint64_t size, Done done) {
  Change([this, size, done = std::move(done)] {
    LiveState::Chain chain = state_.chain();
    int error = 0;
    if (size < chain.size || size % kBlockBytes) error = -EINVAL;
    if (size / kBlockBytes > state_.capacity_blocks()) error = -EFBIG;
    if (!error) {
      Layer top = state_.layer(chain.top());
      top.size = size;
      state_.SetLayer(chain.top(), top);
      chain.size = size;
      state_.Commit(chain);
    }
    done(error);
    EndChange();
  });
}

void Engine::Rest(std::function<void()> trim) {
  Change([this, trim = std::move(trim)] {
    Quietly([this, trim] {
      // A round for the control socket may be running.
      if (!flushes_.is_running()) scratch_.Trim();
      trim();
      GoOn();
      EndChange();
    });
  });
}
