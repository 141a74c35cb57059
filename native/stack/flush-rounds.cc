#include "flush-rounds.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "map-window.h"

bool FlushRounds::HasDirty(uint64_t from_page) const {
  const LiveState::Chain& chain = state_.chain();
  if (state_.layer(chain.top()).is_image) return false;
  return std::memchr(state_.page_states(chain.region) + from_page, static_cast<int>(PageState::kDirty),
                     state_.pages() - from_page);
}

bool FlushRounds::IsPlain() const {
  return !is_running_ && !state_.failed() && !HasDirty(0);
}

void FlushRounds::SendSync(Completion* completion, unsigned kind, unsigned flags) {
  int file = files_[state_.chain().top()];
  ring_.Next(completion, kind, IORING_OP_FSYNC, file, nullptr, 0, 0, flags)->fsync_flags = IORING_FSYNC_DATASYNC;
}

void FlushRounds::SendPlain(Completion* completion, unsigned kind, unsigned flags) {
  state_.counters().plain_flushes++;
  SendSync(completion, kind, flags);
}

void FlushRounds::Add(Done done) {
  if (state_.failed()) return done(-EIO);
  waiting_.push_back(std::move(done));
  if (!is_running_) Start();
}

void FlushRounds::Start() {
  in_round_.swap(waiting_);
  state_.counters().rounds++;
  state_.counters().grouped_flushes += in_round_.size();
  is_running_ = true;
  next_page_ = 0;
  SendBatch();
}

void FlushRounds::SendBatch() {
  const LiveState::Chain& chain = state_.chain();
  const Layer& top = state_.layer(chain.top());
  has_failed_ = false;
  to_write_ = 0;
  under_way_ = 1;
  first_page_ = next_page_;
  // No entry is silent: each one's end is counted, in whatever way the chain breaks.
  ring_.Room(Scratch::kMapPages + 2);
  constexpr unsigned kLinked = IOSQE_FIXED_FILE | IOSQE_IO_LINK;
  SendSync(this, kSync, HasDirty(next_page_) ? kLinked : IOSQE_FIXED_FILE);
  if (!HasDirty(next_page_)) return;

  // Bits that come from now on are not durable with this fdatasync: their writes may end behind it. So the pages are
  // copied.
  char* copy = scratch_.map_pages();
  char* const end = copy + Scratch::kMapPages * kBlockBytes;
  auto is_dirty = [&](uint64_t page) {
    return page < state_.pages() && state_.page_state(chain.region, page) == PageState::kDirty;
  };
  for (; copy < end && next_page_ < state_.pages(); next_page_++) {
    if (!is_dirty(next_page_)) continue;
    uint64_t first = next_page_;
    char* start = copy;
    for (; copy < end && is_dirty(next_page_); next_page_++, copy += kBlockBytes) {
      state_.SetPageState(chain.region, next_page_, PageState::kInFlush);
      std::memcpy(copy, state_.bits(chain.region) + next_page_ * (kPageBlocks / 64), kBlockBytes);
    }
    next_page_--;
    auto length = static_cast<uint32_t>(copy - start);
    ring_.Next(this, kMapWrite, IORING_OP_WRITE, files_[chain.top()], start, length,
               top.map_offset + first * kBlockBytes, kLinked);
    to_write_ += length;
    under_way_++;
  }
  SendSync(this, kSync, IOSQE_FIXED_FILE);
  under_way_++;
}

void FlushRounds::Complete(unsigned kind, int result, unsigned) {
  if (result < 0) has_failed_ = true;
  if (kind == kMapWrite && result > 0) to_write_ -= result;
  if (--under_way_ == 0) EndBatch();
}

void FlushRounds::EndBatch() {
  bool is_done = !has_failed_ && to_write_ == 0;
  if (!is_done) state_.SetFailed();
  if (is_done) {
    int region = state_.chain().region;
    for (uint64_t page = first_page_; page < next_page_; page++) {
      if (state_.page_state(region, page) == PageState::kInFlush) {
        state_.SetPageState(region, page, PageState::kClean);
      }
    }
    if (next_page_ > first_page_ && HasDirty(next_page_)) return SendBatch();
  }
  is_running_ = false;
  // Whoever waits may change the chain before the next round looks at it.
  std::vector<Done> ended;
  ended.swap(in_round_);
  for (Done& done : ended) done(is_done ? 0 : -EIO);
  ended.clear();
  if (in_round_.empty()) in_round_.swap(ended);
  if (is_running_ || waiting_.empty()) return;
  if (!state_.failed()) return Start();
  ended.swap(waiting_);
  for (Done& done : ended) done(-EIO);
}
