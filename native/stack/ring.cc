#include "ring.h"

#include <poll.h>

#include <chrono>
#include <utility>

#include "system.h"

namespace {

/** Entries of the submission queue: more than the longest chain. */
constexpr unsigned kEntries = 1024;
/** Registered files: the layers, and what transports need. */
constexpr unsigned kFiles = 160;
/** A disk that is given the first of many requests begins with it while the others are still being looked at. */
constexpr unsigned kSubmittedAtOnce = 12;
/** A clock that jumps so far (ns) says that somebody else needs this CPU: then nobody spins for a while. */
constexpr uint64_t kTakenAway = 500'000, kSpinPause = 20'000'000;

uint64_t Nanoseconds() {
  return std::chrono::steady_clock::now().time_since_epoch().count();
}

void CheckRing(int result, const char* call) {
  if (result < 0) throw SystemFailure{-result, call};
}

/** Lets the other hardware thread run. */
void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

class Ring::PollWatch final : public Completion {
 public:
  PollWatch(Ring& ring, int number, int fd, uint32_t events, std::function<void(uint32_t)> ready)
      : ring_(ring), number_(number), fd_(fd), events_(events), ready_(std::move(ready)) {
    Start();
  }

  void Cancel() {
    is_cancelled_ = true;
    // Not POLL_REMOVE: where an event has just come it fails, and the poll goes on, and keeps the file open.
    io_uring_sqe* entry = ring_.Next(this, kCancel, IORING_OP_ASYNC_CANCEL, -1, nullptr, 0, 0, 0);
    entry->addr = reinterpret_cast<uint64_t>(static_cast<Completion*>(this)) | kPoll;
    expected_++;
  }

  void Complete(unsigned, int result, unsigned flags) override {
    if (!(flags & IORING_CQE_F_MORE)) expected_--;
    if (is_cancelled_) {
      if (expected_ == 0) ring_.watches_.erase(number_);
      return;
    }
    if (result < 0) return;
    if (!(flags & IORING_CQE_F_MORE)) Start();
    // May cancel it, which keeps it alive until the last completion.
    ready_(static_cast<uint32_t>(result));
  }

 private:
  enum Kind : unsigned { kPoll, kCancel };

  void Start() {
    io_uring_sqe* entry = ring_.Next(this, kPoll, IORING_OP_POLL_ADD, fd_, nullptr, IORING_POLL_ADD_MULTI, 0, 0);
    entry->poll32_events = events_;
    expected_++;
  }

  Ring& ring_;
  int number_, fd_;
  uint32_t events_;
  std::function<void(uint32_t)> ready_;
  bool is_cancelled_ = false;
  unsigned expected_ = 0;
};

class Ring::Timer final : public Completion {
 public:
  Timer(Ring& ring, std::chrono::microseconds time, std::function<void()> body)
      : ring_(ring), time_{time.count() / 1'000'000, time.count() % 1'000'000 * 1000}, body_(std::move(body)) {}

  void Start() { ring_.Next(this, 0, IORING_OP_TIMEOUT, -1, &time_, 1, 0, 0); }

  void Complete(unsigned, int, unsigned) override {
    std::function<void()> body = std::move(body_);
    ring_.timers_.remove_if([this](const Timer& timer) { return &timer == this; });
    body();
  }

 private:
  Ring& ring_;
  __kernel_timespec time_;
  std::function<void()> body_;
};

Ring::Ring(Entries entries) {
  io_uring_params parameters{};
  parameters.flags =
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CQSIZE;
  if (entries == Entries::kWithCommands) parameters.flags |= IORING_SETUP_SQE128;
  parameters.cq_entries = 4 * kEntries;
  CheckRing(io_uring_queue_init_params(kEntries, &ring_, &parameters), "io_uring_setup");
  CheckRing(io_uring_register_files_sparse(&ring_, kFiles), "io_uring_register");
  for (int index = kFiles; index-- > 0;) free_files_.push_back(index);
  io_uring_register_ring_fd(&ring_);
}

Ring::~Ring() {
  io_uring_queue_exit(&ring_);
}

void Ring::Room(unsigned entries) {
  // Where the kernel lacks memory for a moment, or room for completions, entries stay in the queue.
  while (io_uring_sq_space_left(&ring_) < entries && io_uring_submit(&ring_) < 0) io_uring_get_events(&ring_);
}

io_uring_sqe* Ring::Next(Completion* completion, unsigned kind, uint8_t opcode, int file, const void* address,
                         uint32_t length, uint64_t offset, unsigned flags) {
  Room(1);
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  io_uring_prep_rw(opcode, entry, file, address, length, offset);
  entry->user_data = reinterpret_cast<uint64_t>(completion) | kind;
  entry->flags = flags;
  return entry;
}

void Ring::Submit() {
  io_uring_submit(&ring_);
}

int Ring::RegisterFile(int fd) {
  if (free_files_.empty()) throw SystemFailure{ENFILE, "io_uring_register"};
  int index = free_files_.back();
  CheckRing(io_uring_register_files_update(&ring_, index, &fd, 1), "io_uring_register");
  free_files_.pop_back();
  return index;
}

void Ring::UnregisterFile(int index) {
  int none = -1;
  CheckRing(io_uring_register_files_update(&ring_, index, &none, 1), "io_uring_register");
  free_files_.push_back(index);
}

int Ring::Watch(int fd, uint32_t events, std::function<void(uint32_t)> ready) {
  int number = next_watch_++;
  watches_[number] = std::make_unique<PollWatch>(*this, number, fd, events, std::move(ready));
  return number;
}

void Ring::Unwatch(int watch) {
  if (auto found = watches_.find(watch); found != watches_.end()) found->second->Cancel();
}

void Ring::After(std::chrono::microseconds time, std::function<void()> body) {
  timers_.emplace_back(*this, time, std::move(body)).Start();
}

bool Ring::Spin() {
  io_uring_submit(&ring_);
  uint64_t limit = spin_microseconds_ * 1000ull, last = Nanoseconds();
  auto look = [&] {
    uint64_t now = Nanoseconds();
    if (now - last > kTakenAway) no_spin_before_ = now + kSpinPause;
    last = now;
  };
  for (uint64_t end = last + limit; last < end; look()) {
    for (int i = 0; i < 20; i++) {
      if (io_uring_cq_ready(&ring_)) {
        look();
        return true;
      }
      if (__atomic_load_n(ring_.sq.kflags, __ATOMIC_ACQUIRE) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) {
        look();
        io_uring_get_events(&ring_);
        last = Nanoseconds();
        end = last + limit;
      }
      Pause();
    }
  }
  return false;
}

void Ring::Wait() {
  uint64_t start = Nanoseconds();
  if (is_spinning_ && start >= no_spin_before_ && Spin()) return;
  io_uring_submit_and_wait(&ring_, 1);
  // Only while requests follow each other closely: when idle it costs nothing.
  is_spinning_ = Nanoseconds() - start < 2000ull * spin_microseconds_;
}

void Ring::Run() {
  stopped_ = false;
  while (!stopped_) {
    Wait();
    io_uring_cqe* completed;
    unsigned head, count = 0;
    io_uring_for_each_cqe(&ring_, head, completed) {
      count++;
      uint64_t data = completed->user_data;
      reinterpret_cast<Completion*>(data & ~uint64_t{7})->Complete(data & 7, completed->res, completed->flags);
      if (io_uring_sq_ready(&ring_) >= kSubmittedAtOnce) io_uring_submit(&ring_);
      if (stopped_) break;
    }
    io_uring_cq_advance(&ring_, count);
  }
}
