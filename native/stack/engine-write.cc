#include <fcntl.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>

#include "engine.h"

namespace {

constexpr std::chrono::milliseconds kProbePause{200};

/** Free space above which held requests go on: 2 % of the file system, at least 64 MiB, at most 1 GiB. */
bool HasSpace(int fd) {
  struct statvfs status;
  if (fstatvfs(fd, &status) < 0) return false;
  constexpr uint64_t kMiB = 1 << 20;
  uint64_t total = static_cast<uint64_t>(status.f_blocks) * status.f_frsize;
  uint64_t free = static_cast<uint64_t>(status.f_bavail) * status.f_frsize;
  return free > std::clamp(total / 50, 64 * kMiB, 1024 * kMiB);
}

}  // namespace

void Engine::Write(Request& request) {
  state_.counters().writes++;
  if (map_.IsInTop(request.begin(), request.end())) {
    ring_.Room(1 + Transport::kAnswerEntries);
    Send(request, kChain, IORING_OP_WRITE, state_.chain().top(), request.offset, request.data, request.length,
         chain_flags_);
    return AnswerBehind(request);
  }
  if (!BeginFirstWrite(request)) return;
  state_.counters().first_writes++;
  Send(request, kFirst, IORING_OP_WRITE, state_.chain().top(), request.offset, request.data, request.length, 0);
}

void Engine::Zero(Request& request) {
  if (!BeginFirstWrite(request)) return;
  state_.counters().zeroes++;
  SendPunch(request, kFirst);
}

void Engine::SendPunch(Request& request, unsigned kind) {
  Slot top = state_.chain().top();
  io_uring_sqe* entry =
      ring_.Next(&request, kind, IORING_OP_FALLOCATE, files_[top], nullptr, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                 state_.layer(top).data_offset + request.offset, IOSQE_FIXED_FILE);
  entry->addr = request.length;
}

bool Engine::BeginFirstWrite(Request& request) {
  if (absorber_.IsLocked(request.begin(), request.end())) {
    request.is_parked_ = true;
    absorber_.Park(request);
    return false;
  }
  first_writes_.push_back(&request);
  return true;
}

void Engine::EndFirstWrite(Request& request) {
  if (std::erase(first_writes_, &request)) absorber_.FirstWriteEnded();
}

void Engine::EndFirst(Request& request, int result) {
  if (result < 0) return Fail(request, result);
  bool is_whole = request.operation == Operation::kZero || static_cast<uint64_t>(result) == request.length;
  is_whole ? Wrote(request) : StartPieces(request);
}

void Engine::Wrote(Request& request) {
  if (!state_.layer(state_.chain().top()).is_image) map_.SetInTop(request.begin(), request.end());
  Answer(request, 0);
  EndFirstWrite(request);
}

void Engine::Hold(Request& request) {
  if (state_.drop_held()) return Answer(request, -EIO);
  request.is_parked_ = true;
  held_.push_back(&request);
  state_.SetHeld(static_cast<uint32_t>(held_.size()));
  state_.counters().held++;
  Probe();
}

void Engine::Probe() {
  if (is_probing_) return;
  is_probing_ = true;
  ring_.After(kProbePause, [this] {
    is_probing_ = false;
    if (held_.empty()) return;
    if (!is_quiet_ && HasSpace(state_.layer(state_.chain().top()).fd)) return GoOnWithHeld();
    Probe();
  });
}

void Engine::GoOnWithHeld() {
  std::vector<Request*> held;
  held.swap(held_);
  state_.SetHeld(0);
  for (Request* request : held) Handle(*request);
}

void Engine::ReleaseHeld() {
  state_.SetDropHeld();
  // Not in the middle of a change: an answer makes room for the next request.
  Change([this] {
    std::vector<Request*> held;
    held.swap(held_);
    state_.SetHeld(0);
    for (Request* request : held) {
      request->is_parked_ = false;
      Answer(*request, -EIO);
    }
    EndChange();
  });
}
