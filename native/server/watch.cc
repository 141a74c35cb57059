#include "watch.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>

#include "options.h"
#include "process-start.h"
#include "system.h"

namespace {

/** A container's end ends its storage: how long both may take to be seen. */
constexpr int kGraceMs = 500;
constexpr int kKillRounds = 400;
constexpr timespec kKillPause = {.tv_sec = 0, .tv_nsec = 10'000'000};

struct WatchOptions {
  std::string keeper;
  std::string init;
  std::string mark;
  std::string control;
  std::string processes;
  std::string thaw;
};

WatchOptions ParseWatchOptions(const std::vector<std::string>& arguments) {
  WatchOptions options;
  const std::pair<const char*, std::string*> known[] = {
      {"--keeper", &options.keeper},   {"--init", &options.init},           {"--mark", &options.mark},
      {"--control", &options.control}, {"--processes", &options.processes}, {"--thaw", &options.thaw}};
  for (size_t i = 0; i < arguments.size(); i += 2) {
    const auto* option = std::begin(known);
    while (option != std::end(known) && arguments[i] != option->first) ++option;
    if (option == std::end(known)) throw std::invalid_argument("unknown option " + arguments[i]);
    if (i + 1 == arguments.size()) throw std::invalid_argument("missing value of " + arguments[i]);
    *option->second = arguments[i + 1];
  }
  for (const auto& [name, value] : known) {
    if (value->empty() && value != &options.thaw) throw std::invalid_argument(std::string("missing option ") + name);
  }
  return options;
}

/** A pidfd of exactly the process `PID:START`; none where it has ended. */
Fd OpenProcess(const std::string& identity) {
  const size_t colon = identity.find(':');
  if (colon == identity.npos) throw std::invalid_argument("not a process: " + identity);
  const auto pid = static_cast<pid_t>(ParseDecimal(identity.substr(0, colon), 1 << 30));
  const uint64_t start = ParseDecimal(identity.substr(colon + 1), UINT64_MAX);
  Fd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!process && errno != ESRCH) throw SystemFailure{errno, "pidfd_open"};
  return process && ProcessStart(pid) == start ? std::move(process) : Fd();
}

/** Whether it ends within the time; -1 waits for ever. */
bool HasEnded(const Fd& process, int timeout_ms) {
  if (!process) return true;
  pollfd ended = {.fd = process.get(), .events = POLLIN, .revents = 0};
  int count;
  while ((count = poll(&ended, 1, timeout_ms)) < 0 && errno == EINTR) {
  }
  return count > 0;
}

void AwaitEither(const Fd& keeper, const Fd& init) {
  if (!keeper || !init) return;
  std::array<pollfd, 2> ends = {
      {{.fd = keeper.get(), .events = POLLIN, .revents = 0}, {.fd = init.get(), .events = POLLIN, .revents = 0}}};
  while (poll(ends.data(), ends.size(), -1) < 0 && errno == EINTR) {
  }
}

/** What fails here is tried again in the next round, or was done by somebody else. */
void WriteFile(const std::string& path, const std::string& text, int flags) {
  const Fd file(open(path.c_str(), O_WRONLY | O_CLOEXEC | flags, 0600));
  if (file) [[maybe_unused]]
    const ssize_t written = write(file.get(), text.data(), text.size());
}

void Thaw(const std::string& thaw) {
  const size_t colon = thaw.rfind(':');
  if (colon != thaw.npos) WriteFile(thaw.substr(0, colon), thaw.substr(colon + 1), 0);
}

void KillContainer(const WatchOptions& options, const Fd& init) {
  for (int round = 0; round < kKillRounds; ++round) {
    if (!HasEnded(init, 0)) syscall(SYS_pidfd_send_signal, init.get(), SIGKILL, nullptr, 0);
    std::ifstream processes(options.processes);
    bool found = false;
    for (pid_t pid; processes >> pid;) {
      if (pid <= 1) continue;
      kill(pid, SIGKILL);
      found = true;
    }
    if (!found && HasEnded(init, 0)) return;
    Thaw(options.thaw);
    nanosleep(&kKillPause, nullptr);
  }
}

}  // namespace

int Watch(const std::vector<std::string>& arguments) {
  prctl(PR_SET_NAME, "loopbox-watch");
  const WatchOptions options = ParseWatchOptions(arguments);
  // A lock that the caller left open would be held for as long as the container runs.
  close_range(3, ~0U, 0);
  const Fd keeper = OpenProcess(options.keeper);
  const Fd init = OpenProcess(options.init);
  AwaitEither(keeper, init);
  // The container may have died of it, at its first read, and before a server that lets go of its files has ended. One
  // that ends because its work is done has taken its socket away.
  const bool is_lost = HasEnded(keeper, HasEnded(init, 0) ? kGraceMs : 0) && access(options.control.c_str(), F_OK) == 0;
  if (!is_lost && HasEnded(init, kGraceMs)) return 0;
  WriteFile(options.mark, "storage server lost\n", O_CREAT | O_NOFOLLOW);
  KillContainer(options, init);
  return 0;
}
