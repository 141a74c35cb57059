#include "ring.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <optional>

#include "assert.h"

namespace {

std::array<Fd, 2> Pair() {
  int ends[2];
  Check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), "socketpair");
  return {Fd(ends[0]), Fd(ends[1])};
}

/** Nobody has the other end open any more. */
bool IsAlone(int end) {
  pollfd look = {.fd = end, .events = POLLIN, .revents = 0};
  return poll(&look, 1, 0) == 1 && (look.revents & POLLHUP);
}

/** Lets the ring work for a moment. */
void Turn(Ring& ring) {
  ring.After(std::chrono::milliseconds(20), [&] { ring.Stop(); });
  ring.Run();
}

void TestWatchTellsOfEachEvent() {
  Ring ring;
  const auto [own, peer] = Pair();
  int events = 0;
  ring.Watch(own.get(), POLLIN, [&](uint32_t) { events++; });
  for (int round = 1; round <= 3; round++) {
    EXPECT(write(peer.get(), "x", 1) == 1);
    Turn(ring);
    EXPECT(events == round);
  }
}

/** It holds the file no longer, also where an event comes just then, of which nobody is told. */
void TestUnwatchLetsGo() {
  Ring ring;
  for (const bool comes_more : {false, true}) {
    auto [own, peer] = Pair();
    int events = 0;
    std::optional<int> watch;
    watch = ring.Watch(own.get(), POLLIN, [&](uint32_t) {
      events++;
      if (comes_more) EXPECT(write(peer.get(), "x", 1) == 1);
      ring.Unwatch(*watch);
    });
    EXPECT(write(peer.get(), "x", 1) == 1);
    Turn(ring);
    EXPECT(events == 1);
    EXPECT(!IsAlone(peer.get()));
    own = Fd();
    EXPECT(IsAlone(peer.get()));
  }
}

}  // namespace

int main() {
  TestWatchTellsOfEachEvent();
  TestUnwatchLetsGo();
}
