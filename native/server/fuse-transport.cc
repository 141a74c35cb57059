#include "fuse-transport.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "fuse-request.h"
#include "log.h"

namespace {

/** Newer than Debian 12's liburing: IORING_OP_READ_MULTISHOT, kernel 6.7. */
constexpr uint8_t kReadMultishot = 49;
constexpr uint16_t kBufferGroup = 1;

/** What an idle server keeps. */
constexpr unsigned kIdleBuffers = 1;

/** In front of the data, which is page-aligned, lies a request's header; and then, nearer, the header of its answer. */
constexpr size_t kRequestHeader = sizeof(fuse_in_header) + sizeof(fuse_write_in);
static_assert(kRequestHeader == 80 && sizeof(fuse_read_in) == sizeof(fuse_write_in));

/** The most that are added at a time: as long as their memory is being cleared, no request is served. */
constexpr unsigned kGrowth = 16;

constexpr std::chrono::seconds kTick{1};
/** What is given back is taken again at a cost: so many ticks in a row must do without, each with few requests. */
constexpr unsigned kQuietTicks = 5, kFewRequests = 64;
/** After so long without a request the connection's end is watched for. */
constexpr std::chrono::milliseconds kIdle{10};
/** Between two looks whether the last chains have ended. */
constexpr std::chrono::microseconds kWithholdPause{50};
constexpr std::chrono::milliseconds kNoBufferPause{1};

}  // namespace

FuseTransport::FuseTransport(Ring& ring, Engine& engine, int fuse, std::string file_name)
    : ring_(ring),
      engine_(engine),
      fuse_(fuse),
      file_(ring.RegisterFile(fuse)),
      file_name_(std::move(file_name)),
      buffers_(ring, kBuffers, kIdleBuffers) {
  for (unsigned index = 0; index < kBuffers; index++) {
    Slot& slot = slots_[index];
    slot.transport = this;
    slot.request.engine = &engine;
    slot.request.data = buffers_.data(index);
    slot.request.buffer = index;
  }
}

void FuseTransport::AddBuffers(unsigned count) {
  count = std::min(count, kBuffers - ready_);
  buffers_.Fill(ready_, count);
  for (; count > 0; count--, ready_++) {
    Slot& slot = slots_[ready_];
    slot.request.registered = buffers_.Register(ready_);
    Provide(slot);
  }
}

void FuseTransport::RemoveBuffers() {
  for (unsigned index = kIdleBuffers; index < ready_; index++) slots_[index].is_withheld = false;
  buffers_.Drop(kIdleBuffers, ready_ - kIdleBuffers);
  ready_ = kIdleBuffers;
}

bool FuseTransport::AskAgain() {
  fuse_out_header header{sizeof header, kFuseNotifyResend, 0};
  return write(fuse_, &header, sizeof header) >= 0;
}

void FuseTransport::Start(std::function<void()> ended) {
  ended_ = std::move(ended);
  AddBuffers(kIdleBuffers);
  Receive();
  ring_.After(kTick, [this] { Tick(); });
  WatchForEnd();
}

void FuseTransport::Receive() {
  is_receiving_ = true;
  uint8_t opcode = has_multishot_ ? kReadMultishot : static_cast<uint8_t>(IORING_OP_READ);
  uint32_t length = has_multishot_ ? 0 : kRequestHeader + kMaxTransfer;
  ring_.Next(this, kRequest, opcode, file_, nullptr, length, -1, IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT)->buf_group =
      kBufferGroup;
}

void FuseTransport::Complete(unsigned kind, int result, unsigned flags) {
  kind == kRequest ? Received(result, flags) : Withheld(result);
}

void FuseTransport::Received(int result, unsigned flags) {
  if (!(flags & IORING_CQE_F_MORE)) is_receiving_ = false;
  if (result > 0) Take(slots_[flags >> IORING_CQE_BUFFER_SHIFT]);
  if (result == -ENODEV) return End();
  if (is_receiving_ || is_ended_) return;
  if (result == -ENOBUFS) {
    if (is_quiesced_) return;
    if (ready_ < kBuffers) {
      AddBuffers(std::min(ready_, kGrowth));
      return Receive();
    }
    // They come back silently.
    ring_.After(kNoBufferPause, [this] {
      if (!is_receiving_ && !is_quiesced_) Receive();
    });
    return;
  }
  if (result == -EINVAL) has_multishot_ = false;
  Receive();
}

void FuseTransport::Take(Slot& slot) {
  were_requests_ = true;
  if (watch_) {
    ring_.Unwatch(*std::exchange(watch_, std::nullopt));
    ring_.After(kIdle, [this] { WatchForEnd(); });
  }
  const char* start = slot.request.data - kRequestHeader;
  fuse_in_header header;
  std::memcpy(&header, start, sizeof header);
  const char* argument = start + sizeof header;
  slot.unique = header.unique;
  Request& request = slot.request;
  const std::optional<int> error = ReadFuseRequest(header.opcode, argument, request);
  if (!error) {
    if (!IsUnanswered(header.opcode)) AnswerOther(slot, header);
    return Provide(slot);
  }
  if (*error) return Answer(request, *error);
  requests_++;
  engine_.Handle(request);
}

void FuseTransport::AnswerOther(const Slot& slot, const fuse_in_header& header) {
  const FuseFile file{.name = file_name_,
                      .size_bytes = engine_.state().capacity_blocks() * kBlockBytes,
                      .max_background = kBuffers - 8,
                      .max_transfer = kMaxTransfer};
  FuseAnswer answer = AnswerFuse(file, header, slot.request.data - kRequestHeader + sizeof header);
  WriteFuseAnswer(fuse_, header.unique, answer);
}

void FuseTransport::Answer(Request& request, int error) {
  Slot& slot = slots_[request.buffer];
  const void* answer = &slot.out;
  uint32_t length = sizeof slot.out.header;
  if (!error && request.operation == Operation::kRead) {
    // Header and data adjoin: nothing is gathered.
    length += request.length;
    char* front = request.data - sizeof(fuse_out_header);
    fuse_out_header header{length, 0, slot.unique};
    std::memcpy(front, &header, sizeof header);
    answer = front;
  } else {
    if (!error && request.operation == Operation::kWrite) length = sizeof slot.out;
    slot.out = {{length, error, slot.unique}, {static_cast<uint32_t>(request.length), 0}};
  }
  ring_.Next(&slot, kAnswer, IORING_OP_WRITE, file_, answer, length, -1, Ring::kChained);
  Provide(slot);
}

void FuseTransport::Provide(Slot& slot) {
  constexpr int kCount = 1;
  ring_
      .Next(&slot, kProvide, IORING_OP_PROVIDE_BUFFERS, kCount, slot.request.data - kRequestHeader,
            kRequestHeader + kMaxTransfer, slot.request.buffer, IOSQE_CQE_SKIP_SUCCESS)
      ->buf_group = kBufferGroup;
}

void FuseTransport::Slot::Complete(unsigned kind, int result, unsigned) {
  if (kind == kAnswer) {
    // The request is gone; only its buffer is left.
    if (result != -ENOENT) Log(std::string("answer: ") + strerror(-result));
    return transport->Provide(*this);
  }
  if (result < 0 && result != -ECANCELED) throw SystemFailure{-result, "provide buffers"};
}

void FuseTransport::Quiesce(std::function<void()> done) {
  quiesced_ = std::move(done);
  is_quiesced_ = true;
  withheld_ = 0;
  Withhold();
}

void FuseTransport::Withhold() {
  ring_.Next(this, kWithheld, IORING_OP_REMOVE_BUFFERS, kBuffers, nullptr, 0, 0, 0)->buf_group = kBufferGroup;
}

void FuseTransport::Withheld(int count) {
  if (count > 0) withheld_ += count;
  auto end = slots_.begin() + ready_;
  auto parked = std::count_if(slots_.begin(), end, [](const Slot& slot) { return slot.request.is_parked(); });
  // A buffer that is neither here nor parked belongs to a request under way.
  if (withheld_ + parked < ready_) return ring_.After(kWithholdPause, [this] { Withhold(); });
  std::for_each(slots_.begin(), end, [](Slot& slot) { slot.is_withheld = !slot.request.is_parked(); });
  std::exchange(quiesced_, nullptr)();
}

void FuseTransport::Resume() {
  is_quiesced_ = false;
  for (Slot& slot : slots_) {
    if (std::exchange(slot.is_withheld, false)) Provide(slot);
  }
  if (!is_receiving_) Receive();
}

void FuseTransport::WatchForEnd() {
  if (is_ended_) return;
  if (std::exchange(were_requests_, false)) return ring_.After(kIdle, [this] { WatchForEnd(); });
  // A read that stays does not see it: POLLERR without POLLIN. Every request wakes this, too, so it is there only while
  // there are none.
  watch_ = ring_.Watch(fuse_, POLLERR, [this](uint32_t) {
    if (IsFuseDisconnected(fuse_)) End();
  });
}

void FuseTransport::Tick() {
  if (is_ended_) return;
  if (IsFuseDisconnected(fuse_)) return End();
  quiet_ticks_ = std::exchange(requests_, 0) <= kFewRequests ? quiet_ticks_ + 1 : 0;
  if (quiet_ticks_ >= kQuietTicks && ready_ > kIdleBuffers && engine_.state().held() == 0) {
    engine_.Rest([this] { RemoveBuffers(); });
  }
  ring_.After(kTick, [this] { Tick(); });
}

void FuseTransport::End() {
  if (std::exchange(is_ended_, true)) return;
  ended_();
}
