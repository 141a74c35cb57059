#include "engine.h"

#include <fcntl.h>

#include <cerrno>

namespace {

/** How often a piece of a request is tried that the system puts off. */
constexpr unsigned kAttempts = 16;
/** Pages of the last top's map that are merged at a time, and the pause between. */
constexpr uint64_t kMergePages = 32;
constexpr std::chrono::milliseconds kMergePause{10};

bool IsPutOff(int error) {
  return error == -EINTR || error == -EAGAIN;
}
bool IsWhole(const Request& request, int result) {
  return request.operation == Operation::kFlush ? result == 0 : result >= 0 && uint64_t(result) == request.length;
}
bool IsFull(int error) {
  return error == -ENOSPC || error == -EDQUOT;
}

}  // namespace

void Request::Complete(unsigned kind, int result, unsigned) {
  engine->Complete(*this, kind, result);
}

Engine::Engine(Ring& ring, LiveState& state)
    : ring_(ring),
      state_(state),
      map_(state),
      flushes_(ring, state, scratch_, files_),
      absorber_(*this),
      map_read_(ring) {
  files_.fill(-1);
  if (state_.counters().workers++ > 0) DrainFiles();
  state_.SetHeld(0);
  DecidePendingSwitch();
  for (size_t slot = 0; slot < kSlots; slot++) {
    if (state_.layer(slot).fd >= 0 && !state_.IsInUse(slot)) state_.FreeSlot(slot);
  }
  const LiveState::Chain& chain = state_.chain();
  // A round that died is one that has not begun.
  for (uint64_t page = 0; page < state_.pages(); page++) {
    if (state_.page_state(chain.region, page) == PageState::kInFlush) {
      state_.SetPageState(chain.region, page, PageState::kDirty);
    }
  }
  // Bottom first: what lies above counts.
  for (uint32_t index = 0; index < chain.length; index++) {
    map_.Load(chain.order[index]);
    Register(chain.order[index]);
  }
  MergeInBackground();
}

Engine::~Engine() = default;

/** A dead ring's direct writes may outlive its process. Fallocate waits for them; on an allocated block it changes
 * nothing. */
void Engine::DrainFiles() {
  fallocate(state_.layer(state_.chain().top()).fd, FALLOC_FL_KEEP_SIZE, 0, kBlockBytes);
}

void Engine::Register(Slot slot) {
  files_[slot] = ring_.RegisterFile(state_.layer(slot).fd);
}

void Engine::MergeInBackground() {
  if (is_merging_ || state_.chain().unmerged == LiveState::kNone) return;
  is_merging_ = true;
  ring_.After(kMergePause, [this] {
    is_merging_ = false;
    map_.Merge(kMergePages);
    MergeInBackground();
  });
}

bool Engine::IsValid(const Request& request) const {
  uint64_t size = state_.chain().size;
  return request.length > 0 && request.offset % kBlockBytes == 0 && request.length % kBlockBytes == 0 &&
         request.length <= size && request.offset <= size - request.length &&
         (request.operation == Operation::kZero || request.length <= kMaxTransfer);
}

void Engine::Handle(Request& request) {
  request.is_parked_ = false;
  request.attempts_ = request.under_way_ = 0;
  request.aside_ = nullptr;
  if (request.operation != Operation::kFlush && !IsValid(request)) return Answer(request, -EINVAL);
  switch (request.operation) {
    case Operation::kRead:
      return Read(request);
    case Operation::kWrite:
      return Write(request);
    case Operation::kZero:
      return Zero(request);
    case Operation::kFlush:
      return Flush(request);
  }
}

void Engine::Answer(Request& request, int error) {
  ring_.Room(Transport::kAnswerEntries);
  transport_->Answer(request, error);
}

void Engine::AnswerBehind(Request& request) {
  if (chain_flags_ & IOSQE_IO_LINK) Answer(request, 0);
}

io_uring_sqe* Engine::Send(Request& request, unsigned kind, uint8_t opcode, Slot slot, uint64_t offset, char* data,
                           uint64_t length, unsigned flags) {
  bool is_registered = data >= request.data && data + length <= request.data + request.registered;
  if (is_registered) opcode = opcode == IORING_OP_READ ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
  io_uring_sqe* entry = ring_.Next(&request, kind, opcode, files_[slot], data, static_cast<uint32_t>(length),
                                   state_.layer(slot).data_offset + offset, flags | IOSQE_FIXED_FILE);
  if (is_registered) entry->buf_index = request.buffer;
  return entry;
}

void Engine::Complete(Request& request, unsigned kind, int result) {
  switch (kind) {
    case kChain:
      if (IsWhole(request, result)) return Answer(request, 0);
      // What followed it in the chain was cancelled.
      if (request.operation == Operation::kFlush) {
        state_.SetFailed();
        return Answer(request, -EIO);
      }
      return result < 0 ? Fail(request, result) : StartPieces(request);
    case kPart:
      return EndPart(request, result);
    case kPiece:
      return EndPiece(request, result);
    case kFirst:
      return EndFirst(request, result);
  }
}

void Engine::Fail(Request& request, int error) {
  if (IsPutOff(error) && request.attempts_++ < kAttempts) return StartPieces(request);
  EndFirstWrite(request);
  if (IsFull(error) && request.operation != Operation::kRead) return Hold(request);
  Answer(request, error == -EOPNOTSUPP ? error : -EIO);
}

void Engine::StartPieces(Request& request) {
  request.done_ = 0;
  NextPiece(request);
}

void Engine::NextPiece(Request& request) {
  while (request.done_ < request.length) {
    switch (request.operation) {
      case Operation::kRead:
        if (SendReadPiece(request)) return;
        break;
      case Operation::kWrite:
        Send(request, kPiece, IORING_OP_WRITE, state_.chain().top(), request.offset + request.done_,
             request.data + request.done_, request.length - request.done_, 0);
        return;
      case Operation::kZero:
        return SendPunch(request, kPiece);
      case Operation::kFlush:
        return;
    }
  }
  request.operation == Operation::kRead ? Answer(request, 0) : Wrote(request);
}

void Engine::EndPiece(Request& request, int result) {
  if (IsPutOff(result) && request.attempts_++ < kAttempts) return NextPiece(request);
  if (result < 0) return Fail(request, result);
  if (request.operation == Operation::kZero) return Wrote(request);
  uint64_t blocks = static_cast<uint64_t>(result) / kBlockBytes;
  // A file that ends too early, or a piece that does not get on: never zeroes in place of what should be there.
  if (blocks == 0 && (result == 0 || request.attempts_++ >= kAttempts)) return Fail(request, -EIO);
  request.done_ += blocks * kBlockBytes;
  NextPiece(request);
}

void Engine::Flush(Request& request) {
  if (state_.failed()) return Answer(request, -EIO);
  if (!flushes_.IsPlain()) return flushes_.Add([this, &request](int error) { Answer(request, error); });
  ring_.Room(1 + Transport::kAnswerEntries);
  flushes_.SendPlain(&request, kChain, chain_flags_);
  AnswerBehind(request);
}

void Engine::FlushRound(Done done) {
  flushes_.Add(std::move(done));
}

void Engine::Finish(Done done) {
  flushes_.Add(std::move(done));
}
