#include "guardian.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <memory>

#include "private-mount.h"
#include "system.h"

namespace {

/** Lets go of all that the calling process has open but the descriptors to keep: conmon waits for the end of its pipes.
 */
void KeepOnly(std::array<int, 2> keep) {
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int standard = 0; standard <= 2; ++standard) dup2(null, standard);
  std::sort(keep.begin(), keep.end());
  unsigned first = 3;
  for (const int fd : keep) {
    if (static_cast<int>(first) < fd) close_range(first, fd - 1, 0);
    first = fd + 1;
  }
  close_range(first, ~0U, 0);
}

/** Kills what is listed in a cgroup.procs file; returns whether there was anything. */
bool KillListed(const std::string& path) {
  const std::unique_ptr<FILE, decltype(&fclose)> file(fopen(path.c_str(), "re"), fclose);
  bool found = false;
  int pid;
  while (file && fscanf(file.get(), "%d", &pid) == 1) {
    if (pid <= 1) continue;
    kill(pid, SIGKILL);
    found = true;
  }
  return found;
}

void KillAll(const std::string& processes_path) {
  const timespec pause = {.tv_sec = 0, .tv_nsec = 5'000'000};
  for (int round = 0; round < 1000 && KillListed(processes_path); ++round) nanosleep(&pause, nullptr);
}

bool HasContent(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && status.st_size > 0;
}

/** Waits for the starter's byte; returns false where the starter has died or given up. */
bool AwaitStart(const OciArguments& arguments, int pipe, int creator) {
  std::array<pollfd, 2> watched = {
      {{.fd = pipe, .events = POLLIN, .revents = 0}, {.fd = creator, .events = POLLIN, .revents = 0}}};
  for (;;) {
    if (poll(watched.data(), watched.size(), -1) < 0) continue;
    if (watched[0].revents) {
      char byte;
      return read(pipe, &byte, 1) == 1;
    }
    // A create that was killed may leave the container's first process behind, which waits for ever to be started and
    // holds the pipe that conmon reads the reason of the failure from: conmon would never tell.
    watched[1].fd = -1;
    if (!HasContent(arguments.PidFile())) KillAll(arguments.processes);
  }
}

[[noreturn]] void Guard(const OciArguments& arguments, int pipe, int creator) {
  setsid();
  prctl(PR_SET_NAME, "loopbox-guard");
  KeepOnly({pipe, creator});
  if (AwaitStart(arguments, pipe, creator)) _exit(0);

  // A create that is still at work would leave a container behind the delete. And one that dies between the container's
  // first process and its own record of it leaves one that delete knows nothing about.
  syscall(SYS_pidfd_send_signal, creator, SIGKILL, nullptr, 0);
  pollfd end = {.fd = creator, .events = POLLIN, .revents = 0};
  while (poll(&end, 1, 10'000) < 0 && errno == EINTR) {
  }
  KillAll(arguments.processes);
  UnshareMounts();
  execl(arguments.runtime.c_str(), arguments.runtime.c_str(), "--root", arguments.root.c_str(), "delete", "--force",
        arguments.id.c_str(), nullptr);
  _exit(1);
}

}  // namespace

void StartGuardian(const OciArguments& arguments) {
  const Fd pipe(Check(open(arguments.guardian.c_str(), O_RDONLY | O_CLOEXEC), "open", arguments.guardian));
  const Fd creator(Check(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)), "pidfd_open"));
  if (Check(fork(), "fork") == 0) Guard(arguments, pipe.get(), creator.get());
}
