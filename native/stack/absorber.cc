#include "absorber.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "engine.h"

void Absorber::Start(uint8_t slot, uint64_t from_block, Done done) {
  done_ = std::move(done);
  slot_ = slot;
  next_ = from_block;
  budget_ = kBatchBlocks;
  NextPiece();
}

void Absorber::NextPiece() {
  uint64_t blocks = engine_.state_.chain().size / kBlockBytes;
  const uint64_t source_blocks = engine_.state_.layer(slot_).size / kBlockBytes;
  BlockMap::Extent extent{BlockMap::kNobody, next_};
  for (; next_ < blocks; next_ = extent.end) {
    extent = engine_.map_.Find(next_, blocks);
    if (extent.owner == slot_) break;
    // Zeroes behind the source's end are its own, too: the file below it, which the top then stands on, may be longer.
    if (extent.owner != BlockMap::kNobody || extent.end <= source_blocks) continue;
    next_ = std::max(next_, source_blocks);
    break;
  }
  if (next_ >= blocks) return End(0, std::nullopt);
  if (budget_ == 0) return End(0, next_);

  uint64_t end = extent.end;
  for (const Request* request : engine_.first_writes_) {
    if (request->end() <= next_ || request->begin() >= end) continue;
    // Whether this write gets its bit shows when it ends.
    is_waiting_ = request->begin() <= next_;
    if (is_waiting_) return;
    end = request->begin();
  }
  bool is_hole = next_ >= source_blocks || CutAtHole(end);
  if (!is_hole) end = std::min({end, next_ + budget_, next_ + kMaxTransfer / kBlockBytes});
  begin_ = next_;
  end_ = end;
  budget_ -= is_hole ? 1 : end_ - begin_;
  piece_done_ = 0;
  Send(is_hole ? kPunch : kRead);
}

bool Absorber::CutAtHole(uint64_t& end) const {
  const Layer& layer = engine_.state_.layer(slot_);
  auto start = static_cast<off_t>(layer.data_offset + next_ * kBlockBytes);
  off_t data = lseek(layer.fd, start, SEEK_DATA);
  if (data < 0 && errno == ENXIO) return true;
  // Where the system can't tell, all is data.
  if (uint64_t hole_blocks = data < 0 ? 0 : (data - start) / kBlockBytes) {
    end = std::min(end, next_ + hole_blocks);
    return true;
  }
  off_t hole = lseek(layer.fd, start, SEEK_HOLE);
  if (hole > start) end = std::min(end, next_ + (hole - start + kBlockBytes - 1) / kBlockBytes);
  return false;
}

void Absorber::Send(Kind kind) {
  const LiveState& state = engine_.state_;
  Slot slot = kind == kRead ? slot_ : state.chain().top();
  uint64_t length = (end_ - begin_) * kBlockBytes - piece_done_;
  uint64_t offset = state.layer(slot).data_offset + begin_ * kBlockBytes + piece_done_;
  int file = engine_.files_[slot];
  if (kind == kPunch) {
    engine_.ring_
        .Next(this, kind, IORING_OP_FALLOCATE, file, nullptr, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
              IOSQE_FIXED_FILE)
        ->addr = length;
    return;
  }
  char* data = engine_.scratch_.transfer() + piece_done_;
  engine_.ring_.Next(this, kind, kind == kRead ? IORING_OP_READ : IORING_OP_WRITE, file, data,
                     static_cast<uint32_t>(length), offset, IOSQE_FIXED_FILE);
}

void Absorber::Complete(unsigned kind, int result, unsigned) {
  if (result == -EINTR || result == -EAGAIN) return Send(static_cast<Kind>(kind));
  if (result < 0 || (kind != kPunch && result < static_cast<int>(kBlockBytes))) {
    return EndPiece(result < 0 ? result : -EIO);
  }
  if (kind == kPunch) return EndPiece(0);
  piece_done_ += result / kBlockBytes * kBlockBytes;
  if (piece_done_ < (end_ - begin_) * kBlockBytes) return Send(static_cast<Kind>(kind));
  if (kind == kWrite) return EndPiece(0);
  piece_done_ = 0;
  Send(kWrite);
}

void Absorber::EndPiece(int error) {
  if (!error) {
    engine_.map_.SetInTop(begin_, end_);
    next_ = end_;
  }
  begin_ = end_ = 0;
  std::vector<Request*> parked;
  parked.swap(parked_);
  for (Request* request : parked) engine_.Handle(*request);
  error ? End(error, std::nullopt) : NextPiece();
}

void Absorber::FirstWriteEnded() {
  if (std::exchange(is_waiting_, false)) NextPiece();
}

void Absorber::End(int error, std::optional<uint64_t> next) {
  Done done = std::move(done_);
  if (error) return done(error, std::nullopt);
  engine_.flushes_.Add(
      [done = std::move(done), next](int flush_error) { done(flush_error, flush_error ? std::nullopt : next); });
}
