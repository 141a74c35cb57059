#include "fuse-transport.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "log.h"

namespace {

/** Newer than Debian 12's liburing: IORING_OP_READ_MULTISHOT, kernel 6.7. */
constexpr uint8_t kReadMultishot = 49;
constexpr uint16_t kBufferGroup = 1;

/** The part of a buffer that is registered: small requests need no more, and it stays in memory. */
constexpr size_t kHead = 16 << 10;
/** In front of the data, which is page-aligned, lies a request's header; and then, nearer, the header of its answer. */
constexpr size_t kRequestHeader = sizeof(fuse_in_header) + sizeof(fuse_write_in);
static_assert(kRequestHeader == 80 && sizeof(fuse_read_in) == sizeof(fuse_write_in));
constexpr size_t kFront = 4096;
constexpr size_t kStride = kFront + kMaxTransfer;

constexpr std::chrono::seconds kTick{1};
/** Between two looks whether the last chains have ended. */
constexpr std::chrono::microseconds kWithholdPause{50};
constexpr std::chrono::milliseconds kNoBufferPause{1};

}  // namespace

FuseTransport::FuseTransport(Ring& ring, Engine& engine, int fuse, std::string file_name)
    : ring_(ring), engine_(engine), fuse_(fuse), file_(ring.RegisterFile(fuse)), file_name_(std::move(file_name)) {
  void* base =
      mmap(nullptr, kBuffers * kStride, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) throw SystemFailure{errno, "mmap"};
  buffers_ = static_cast<char*>(base);
  std::array<iovec, kBuffers> heads;
  for (unsigned index = 0; index < kBuffers; index++) {
    char* buffer = buffers_ + index * kStride;
    heads[index] = {buffer, kFront + kHead};
    Slot& slot = slots_[index];
    slot.transport = this;
    slot.request.engine = &engine;
    slot.request.data = buffer + kFront;
    slot.request.buffer = index;
    slot.request.registered = kHead;
  }
  if (int result = io_uring_register_buffers(ring_.get(), heads.data(), kBuffers); result < 0) {
    Log(std::string("buffers are not registered: ") + strerror(-result));
    for (Slot& slot : slots_) slot.request.registered = 0;
  }
}

FuseTransport::~FuseTransport() {
  munmap(buffers_, kBuffers * kStride);
}

bool FuseTransport::AskAgain() {
  fuse_out_header header{sizeof header, kFuseNotifyResend, 0};
  return write(fuse_, &header, sizeof header) >= 0;
}

void FuseTransport::Start(std::function<void()> ended) {
  ended_ = std::move(ended);
  for (Slot& slot : slots_) Provide(slot);
  Receive();
  ring_.After(kTick, [this] { Tick(); });
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
    // Buffers come back silently. While quiesced, there are none until `Resume`.
    ring_.After(kNoBufferPause, [this] {
      if (!is_receiving_ && !is_quiesced_) Receive();
    });
    return;
  }
  if (result == -EINVAL) has_multishot_ = false;
  Receive();
}

void FuseTransport::Take(Slot& slot) {
  const char* start = slot.request.data - kRequestHeader;
  fuse_in_header header;
  std::memcpy(&header, start, sizeof header);
  const char* argument = start + sizeof header;
  slot.unique = header.unique;
  Request& request = slot.request;
  if (header.opcode == FUSE_READ || header.opcode == FUSE_WRITE) {
    fuse_read_in io;  // agrees with fuse_write_in in offset and size
    std::memcpy(&io, argument, sizeof io);
    request.operation = header.opcode == FUSE_READ ? Operation::kRead : Operation::kWrite;
    request.offset = io.offset;
    request.length = io.size;
    slot.is_large = io.size > kHead;
    if (slot.is_large) {
      large_++;
      were_large_ = true;
    }
  } else if (header.opcode == FUSE_FALLOCATE) {
    fuse_fallocate_in range;
    std::memcpy(&range, argument, sizeof range);
    request.operation = Operation::kZero;
    request.offset = range.offset;
    request.length = range.length;
    if (!(range.mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))) return Answer(request, -EOPNOTSUPP);
  } else if (header.opcode == FUSE_FSYNC) {
    request.operation = Operation::kFlush;
  } else {
    if (!IsUnanswered(header.opcode)) AnswerOther(slot, header);
    return Provide(slot);
  }
  engine_.Handle(request);
}

void FuseTransport::AnswerOther(const Slot& slot, const fuse_in_header& header) {
  const FuseFile file{.name = file_name_,
                      .size_bytes = engine_.state().chain().size,
                      .max_background = kBuffers - 8,
                      .max_transfer = kMaxTransfer};
  FuseAnswer answer = AnswerFuse(file, header, slot.request.data - kRequestHeader + sizeof header);
  fuse_out_header out{static_cast<uint32_t>(sizeof out + answer.length), answer.error, header.unique};
  iovec parts[] = {{&out, sizeof out}, {answer.body, answer.length}};
  // ENOENT: the request was given up.
  if (writev(fuse_, parts, 2) < 0 && errno != ENOENT) Log(std::string("answer: ") + strerror(errno));
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
  // Of large ones it is told when they are done: only then their memory may be taken.
  unsigned flags = slot.is_large ? 0 : IOSQE_CQE_SKIP_SUCCESS;
  ring_
      .Next(&slot, kProvide, IORING_OP_PROVIDE_BUFFERS, kCount, slot.request.data - kRequestHeader,
            kRequestHeader + kMaxTransfer, slot.request.buffer, flags)
      ->buf_group = kBufferGroup;
}

void FuseTransport::Slot::Complete(unsigned kind, int result, unsigned) {
  if (kind == kAnswer) {
    // The request is gone; only its buffer is left.
    if (result != -ENOENT) Log(std::string("answer: ") + strerror(-result));
    return transport->Provide(*this);
  }
  if (result < 0) {
    if (result != -ECANCELED) throw SystemFailure{-result, "provide buffers"};
    return;
  }
  if (std::exchange(is_large, false)) transport->large_--;
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
  auto parked = std::count_if(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.request.is_parked(); });
  // A buffer that is neither here nor parked belongs to a request under way.
  if (withheld_ + parked < kBuffers) return ring_.After(kWithholdPause, [this] { Withhold(); });
  for (Slot& slot : slots_) slot.is_withheld = !slot.request.is_parked();
  std::exchange(quiesced_, nullptr)();
}

void FuseTransport::Resume() {
  is_quiesced_ = false;
  for (Slot& slot : slots_) {
    if (std::exchange(slot.is_withheld, false)) Provide(slot);
  }
  if (!is_receiving_) Receive();
}

void FuseTransport::Tick() {
  if (is_ended_) return;
  // A read that stays does not see the end of the connection: POLLERR without POLLIN.
  pollfd connection{fuse_, 0, 0};
  if (poll(&connection, 1, 0) > 0 && (connection.revents & POLLERR)) return End();
  if (!were_large_ && large_ == 0) {
    ring_.WhenDrained([this] {
      if (large_ == 0) TrimBuffers();
    });
  }
  were_large_ = false;
  ring_.After(kTick, [this] { Tick(); });
}

void FuseTransport::TrimBuffers() {
  for (Slot& slot : slots_) {
    size_t head = slot.request.registered;
    madvise(slot.request.data + head, kMaxTransfer - head, MADV_DONTNEED);
  }
  engine_.Trim();
}

void FuseTransport::End() {
  if (std::exchange(is_ended_, true)) return;
  ended_();
}
