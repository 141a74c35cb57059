#include "keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "control-socket.h"
#include "control.h"
#include "log.h"
#include "process-start.h"
#include "transport.h"
#include "worker.h"

namespace {

constexpr int kGoFd = 3, kReadyFd = 4;
/** Descriptors that come later get numbers from here on, where a worker opens nothing else. */
constexpr int kFirstAdopted = 512;
constexpr int kNeededDescriptors = kFirstAdopted + 2 * static_cast<int>(kSlots);
/** A worker that serves for less has died at once; and after so many in a row an error is better than another. */
constexpr uint64_t kAtOnceMs = 50;
constexpr int kMaxDeathsAtOnce = 20;
/** The exit code of a worker after which no other would fare better. */
constexpr int kHopeless = 2;

uint64_t NowMs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1'000'000;
}

/** Closes what was inherited by mistake: a lock that the caller's caller left open would be held for as long as the
 * server lives. */
void KeepOnly(std::set<int> keep) {
  unsigned first = 3;
  for (const int fd : keep) {
    if (static_cast<unsigned>(fd) > first) close_range(first, fd - 1, 0);
    first = fd + 1;
  }
  close_range(first, ~0U, 0);
}

void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= kNeededDescriptors) return;
  limit.rlim_cur = std::min<rlim_t>(kNeededDescriptors, limit.rlim_max);
  setrlimit(RLIMIT_NOFILE, &limit);
}

/**
 * For what is adopted later. A table of descriptors that grows when io_uring's threads share it waits for the kernel's
 * next grace period (expand_fdtable in fs/file.c), 20 ms in the middle of the freeze of a first snapshot.
 */
void MakeRoomForDescriptors(int any) {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return;
  const int last = static_cast<int>(std::min<rlim_t>(kNeededDescriptors, limit.rlim_cur)) - 1;
  if (fcntl(last, F_GETFD) < 0 && dup3(any, last, O_CLOEXEC) == last) close(last);
}

/** The end of a storage server is that of its users: no signal that is sent to many reaches it, and the kernel takes
 * others first. */
void BecomeLasting() {
  if (getsid(0) != getpid()) Check(setsid(), "setsid");
  for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2}) ::signal(signal, SIG_IGN);
  // What spawned us may have ignored it, and then no one could be waited for.
  signal(SIGCHLD, SIG_DFL);
  umask(077);
  Check(chdir("/"), "chdir", "/");
  // Refused without CAP_SYS_RESOURCE.
  const Fd score(open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  if (!score || write(score.get(), "-1000", 5) < 0)
    Log("may be killed when memory runs out: " + std::string(strerror(errno)));
}

void SetName(const char* name) {
  prctl(PR_SET_NAME, name);
}

}  // namespace

Keeper::Keeper(ServerOptions options) : options_(std::move(options)), go_(kGoFd), ready_(kReadyFd) {
  if (options_.guard_fd >= 0) guard_ = Fd(options_.guard_fd);
  for (const Layer& layer : options_.layers) held_.insert(layer.fd);
}

int Keeper::Run() {
  SetName("loopbox-keeper");
  std::set<int> keep = held_;
  keep.insert({kGoFd, kReadyFd});
  if (guard_) keep.insert(guard_.get());
  KeepOnly(std::move(keep));
  try {
    OpenLog(options_.log_path);
    RaiseDescriptorLimit();
    BecomeLasting();
    char byte;
    if (read(go_.get(), &byte, 1) != 1) return 0;
    SetUp();
    StartWorker(false);
    Tell("ready " + std::to_string(mount_.root.get()) + " " + std::to_string(ProcessStart(getpid()).value_or(0)));
    const int code = Supervise();
    // What is left of it tells a server that was lost from one whose work was done.
    if (code == 0) unlink(options_.control_path.c_str());
    return code;
  } catch (const SystemFailure& failure) {
    Log(Describe(failure));
    const char* name = strerrorname_np(failure.error);
    Tell(std::string("error ") + (name ? name : "EIO") + " " + Describe(failure));
    return 1;
  }
}

void Keeper::SetUp() {
  live_memfd_ = LiveState::Create(options_.size_bytes, options_.layers);
  live_ = std::make_unique<LiveState>(live_memfd_.get());
  control_ = ListenForControl(options_.control_path);
  mount_ = MountAnonymously(options_.name, kMaxTransfer);
}

void Keeper::StartWorker(bool is_restart) {
  int ends[2];
  Check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), "socketpair");
  link_ = Fd(ends[0]);
  Fd other(ends[1]);
  serving_since_ms_.reset();
  const pid_t keeper = getpid();
  worker_pid_ = Check(fork(), "fork");
  if (worker_pid_ == 0) {
    // Who holds the connection without serving it makes its users wait for ever.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != keeper) _exit(1);
    BecomeWorker(std::move(other), is_restart);
  }
  worker_ = Fd(Check(static_cast<int>(syscall(SYS_pidfd_open, worker_pid_, 0)), "pidfd_open"));
}

void Keeper::BecomeWorker(Fd link, bool is_restart) {
  SetName("loopbox-worker");
  // A worker that held the mount, or the guard, would keep it from its end.
  mount_.root = Fd();
  guard_ = Fd();
  go_ = Fd();
  ready_ = Fd();
  link_ = Fd();
  worker_ = Fd();
  live_.reset();
  MakeRoomForDescriptors(live_memfd_.get());
  const KeeperLink keeper(std::move(link));
  std::unique_ptr<Control> control;
  RunWorker({.live_state = live_memfd_.get(),
             .fuse = mount_.connection.get(),
             .transport = options_.transport,
             .is_restart = is_restart,
             .spin_microseconds = options_.spin_microseconds,
             .file_name = options_.name,
             .start_control = [&](Ring& ring, Engine& engine) {
               control = std::make_unique<Control>(ring, engine, keeper, control_.get());
               keeper.TellServing();
             }});
}

int Keeper::Supervise() {
  for (;;) {
    // A descriptor of -1 is passed over.
    std::array<pollfd, 3> events = {{{.fd = worker_.get(), .events = POLLIN, .revents = 0},
                                     {.fd = link_.get(), .events = POLLIN, .revents = 0},
                                     {.fd = go_.get(), .events = POLLIN, .revents = 0}}};
    if (poll(events.data(), events.size(), -1) < 0) {
      if (errno == EINTR) continue;
      throw SystemFailure{errno, "poll"};
    }
    if (events[2].revents) LetGoOfStarter();
    if (events[0].revents) {
      if (const std::optional<int> code = HandleDeath()) return *code;
    } else if (events[1].revents) {
      ServeWorker();
    }
  }
}

std::optional<int> Keeper::HandleDeath() {
  int status;
  Check(waitpid(worker_pid_, &status, 0), "waitpid");
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
  const std::string how = WIFSIGNALED(status) ? "was killed by signal " + std::to_string(WTERMSIG(status))
                                              : "ended with " + std::to_string(WEXITSTATUS(status));
  const bool is_at_once = !serving_since_ms_ || NowMs() - *serving_since_ms_ < kAtOnceMs;
  deaths_at_once_ = is_at_once ? deaths_at_once_ + 1 : 0;
  const std::string what = "worker " + std::to_string(worker_pid_) + " " + how;
  const bool is_hopeless =
      !SurvivesWorkers(options_.transport) || (WIFEXITED(status) && WEXITSTATUS(status) == kHopeless);
  if (is_hopeless || deaths_at_once_ == kMaxDeathsAtOnce) {
    Log(what + "; there will be no other");
    Tell("error EIO the storage server's " + what);
    return 1;
  }
  Log(what + "; starting another");
  link_ = Fd();
  CloseUnused();
  StartWorker(true);
  return std::nullopt;
}

void Keeper::ServeWorker() {
  // By now the worker has decided the switch that its predecessor died over.
  if (undecided_ >= 0 && !live_->has_pending()) {
    held_.erase(undecided_);
    close(undecided_);
    undecided_ = -1;
  }
  try {
    ReceivedRequest received = ReceiveKeeperRequest(link_.get());
    if (received.request.verb == KeeperVerb::kServing) {
      serving_since_ms_ = NowMs();
    } else {
      AnswerKeeperRequest(link_.get(), Answer(std::move(received)));
    }
  } catch (const SystemFailure& failure) {
    // It is dying; its end is what counts.
    if (failure.error != ECONNRESET) Log(Describe(failure));
    link_ = Fd();
  }
}

int Keeper::Answer(ReceivedRequest received) {
  switch (received.request.verb) {
    case KeeperVerb::kServing:
      break;
    case KeeperVerb::kAdopt: {
      const int number = fcntl(received.fd.get(), F_DUPFD_CLOEXEC, kFirstAdopted);
      if (number < 0) return -errno;
      held_.insert(number);
      return number;
    }
    case KeeperVerb::kRelease:
      if (held_.erase(received.request.fd) == 0) return -EBADF;
      close(received.request.fd);
      return 0;
    case KeeperVerb::kUnguard:
      guard_ = Fd();
      return 0;
  }
  return -EPROTO;
}

void Keeper::LetGoOfStarter() {
  mount_.root = Fd();
  go_ = Fd();
  ready_ = Fd();
}

void Keeper::CloseUnused() {
  std::set<int> used;
  for (size_t slot = 0; slot < kSlots; ++slot) {
    if (live_->IsInUse(static_cast<Slot>(slot))) used.insert(live_->layer(static_cast<Slot>(slot)).fd);
  }
  const std::optional<PendingSwitch> pending = live_->pending();
  undecided_ = pending ? pending->directory : -1;
  if (pending) used.insert(pending->directory);
  std::erase_if(held_, [&](int fd) {
    if (used.contains(fd)) return false;
    close(fd);
    return true;
  });
}

void Keeper::Tell(const std::string& line) const {
  if (ready_) dprintf(ready_.get(), "%s\n", line.c_str());
}
