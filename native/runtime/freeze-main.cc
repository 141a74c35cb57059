/**
 * loopbox-freeze: holds a container's file system frozen for a moment, from outside of the container, and thaws it
 * when told to, after a time limit, or when whoever told it to freeze has died, also in the middle of the freeze.
 *
 *     loopbox-freeze MARKER LIMIT_MS [CGROUP_PROCS…]
 *
 * Descriptor 3 is open in the file system. It first moves itself to the cgroups whose cgroup.procs it is told. Requests
 * are single bytes on standard input: `s` syncs, `f` freezes, `t` thaws; their end thaws, too, and ends the program.
 * Each is answered by a line on standard output:
 *
 *     ready             once, at the beginning: the marker is locked, and it is in its cgroups
 *     synced|frozen NS  done, in so many nanoseconds
 *     thawed NS         after so many since the freeze began, and nobody has thawed it in between
 *     lost NS           somebody else has thawed it before
 *     late NS           thawed without a request, at the limit; nothing is said to the request that then comes late
 *     error ERRNO CALL  not done
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <span>

#include "expedited-rcu.h"
#include "freeze-hold.h"
#include "freeze-marker.h"

namespace {

using std::chrono::nanoseconds;

constexpr int kFileSystem = 3;
constexpr int kMarkerPatienceMs = 5000;

void Say(const char* word, nanoseconds time) {
  dprintf(STDOUT_FILENO, "%s %lld\n", word, static_cast<long long>(time.count()));
}

void SayFailure(const SystemFailure& failure) {
  dprintf(STDOUT_FILENO, "error %d %s\n", failure.error, failure.call);
}

void Sync() {
  const auto begun = std::chrono::steady_clock::now();
  CheckOn(kFileSystem, syncfs(kFileSystem), "syncfs");
  Say("synced", std::chrono::steady_clock::now() - begun);
}

void ThawLate(FreezeHold& hold) {
  hold.Thaw();
  Say("late", hold.elapsed());
}

void Answer(char request, FreezeHold& hold, FreezeMarker& marker, nanoseconds limit) {
  if (request == 's') Sync();
  if (request == 'f' && !hold.is_frozen()) {
    const ExpeditedRcu expedited(marker);
    hold.Freeze();
    if (hold.elapsed() >= limit) return ThawLate(hold);
    Say("frozen", hold.elapsed());
  }
  if (request == 't' && hold.is_frozen()) {
    const bool was_frozen = hold.Thaw();
    Say(was_frozen ? "thawed" : "lost", hold.elapsed());
  }
}

/** A first move waits for a grace period. */
void MoveTo(std::span<char*> cgroups, FreezeMarker& marker) {
  if (cgroups.empty()) return;
  const ExpeditedRcu expedited(marker);
  for (const char* processes : cgroups) {
    const Fd file(Check(open(processes, O_WRONLY | O_CLOEXEC), "open", processes));
    CheckOn(file.get(), write(file.get(), "0", 1), "write");
  }
}

/** Returns at the end of the requests. */
void Serve(FreezeHold& hold, FreezeMarker& marker, nanoseconds limit) {
  for (;;) {
    using std::chrono::milliseconds;
    const auto left = std::chrono::ceil<milliseconds>(limit - hold.elapsed());
    pollfd requests = {.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    const int ready = poll(&requests, 1, hold.is_frozen() ? static_cast<int>(std::max(left.count(), 0L)) : -1);
    try {
      if (ready == 0) ThawLate(hold);
      char request;
      if (ready > 0 && read(STDIN_FILENO, &request, 1) != 1) return;
      if (ready > 0) Answer(request, hold, marker, limit);
    } catch (const SystemFailure& failure) {
      SayFailure(failure);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: loopbox-freeze MARKER LIMIT_MS [CGROUP_PROCS...]\n");
    return 2;
  }
  // What the caller's caller left open (a lock in a shell) must not be held for as long as a freeze may take.
  close_range(kFileSystem + 1, ~0U, 0);
  // All of a session or of a host is told to end at once: the thaw comes first.
  for (const int signal_number : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE}) signal(signal_number, SIG_IGN);
  // To thaw, nothing may have to be read from a disk that waits for the thaw.
  mlockall(MCL_CURRENT | MCL_FUTURE);
  umask(0077);
  try {
    FreezeMarker marker(argv[1], kMarkerPatienceMs);
    ExpeditedRcu::SetBackLeftover(marker);
    MoveTo(std::span(argv, static_cast<size_t>(argc)).subspan(3), marker);
    FreezeHold hold(kFileSystem);
    dprintf(STDOUT_FILENO, "ready\n");
    Serve(hold, marker, std::chrono::milliseconds(atoi(argv[2])));
  } catch (const SystemFailure& failure) {
    SayFailure(failure);
    return 1;
  }
  return 0;
}
