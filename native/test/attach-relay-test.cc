#include "attach-relay.h"

#include <fcntl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <thread>

#include "assert.h"
#include "system.h"

namespace {

struct Pair {
  Fd first, second;
};

Pair MakePipe() {
  int ends[2];
  Check(pipe2(ends, O_CLOEXEC), "pipe2");
  return {Fd(ends[0]), Fd(ends[1])};
}

/** `first` plays conmon, `second` is the relay's. */
Pair MakeSocket() {
  int ends[2];
  Check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), "socketpair");
  Check(fcntl(ends[1], F_SETFL, O_NONBLOCK), "fcntl");
  return {Fd(ends[0]), Fd(ends[1])};
}

void Drop(Fd& fd) {
  Fd closed = std::move(fd);
}

std::string ReadAll(int fd) {
  std::string all;
  char buffer[65536];
  ssize_t count;
  while ((count = read(fd, buffer, sizeof buffer)) > 0) all.append(buffer, count);
  return all;
}

/** Every byte value, in an order that shows a lost or doubled piece. */
std::string Pattern(size_t size) {
  std::string pattern(size, '\0');
  unsigned state = 1;
  for (char& byte : pattern) byte = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return pattern;
}

const auto kNoSignals = [](int) { return 0; };

void SplitsStreams() {
  Pair socket = MakeSocket(), output = MakePipe(), error = MakePipe();
  for (const std::string packet : {"\2one ", "\3bad", "\2two", "\7ignored"})
    send(socket.first.get(), packet.data(), packet.size(), 0);
  Drop(socket.first);
  Relay relay({socket.second.get(), -1, output.second.get(), error.second.get()}, kNoSignals);
  EXPECT(relay.Run() == 0);
  Drop(output.second);
  Drop(error.second);
  EXPECT(ReadAll(output.first.get()) == "one two");
  EXPECT(ReadAll(error.first.get()) == "bad");
}

/** A container that copies its input to its output, in packets as conmon's, and ends after the input's end. */
void CarriesBothWays() {
  constexpr size_t kSize = 20 << 20;
  const std::string sent = Pattern(kSize);
  Pair socket = MakeSocket(), input = MakePipe(), output = MakePipe();
  std::thread container([&] {
    char packet[kMaxInput + 1] = {2};
    ssize_t count;
    while ((count = recv(socket.first.get(), packet + 1, kMaxInput, 0)) > 0)
      send(socket.first.get(), packet, count + 1, 0);
    Drop(socket.first);
  });
  std::thread writer([&] {
    for (size_t done = 0; done < sent.size();)
      done += write(input.second.get(), sent.data() + done, sent.size() - done);
    Drop(input.second);
  });
  std::string received;
  std::thread reader([&] { received = ReadAll(output.first.get()); });
  Relay relay({socket.second.get(), input.first.get(), output.second.get(), STDERR_FILENO}, kNoSignals);
  EXPECT(relay.Run() == 0);
  Drop(output.second);
  container.join();
  writer.join();
  reader.join();
  EXPECT(received == sent);
}

/** A container that reads nothing: its output arrives all the same, also what it sent before it ended with our input
 * unread. */
void OutputDoesNotWaitForInput() {
  Pair socket = MakeSocket(), input = MakePipe(), output = MakePipe();
  fcntl(input.second.get(), F_SETFL, O_NONBLOCK);
  const std::string much = Pattern(1 << 20);
  EXPECT(write(input.second.get(), much.data(), much.size()) > 0);
  std::thread container([&] {
    usleep(50'000);
    send(socket.first.get(), "\2last words", 11, 0);
    Drop(socket.first);
  });
  Relay relay({socket.second.get(), input.first.get(), output.second.get(), STDERR_FILENO}, kNoSignals);
  EXPECT(relay.Run() == 0);
  container.join();
  Drop(output.second);
  EXPECT(ReadAll(output.first.get()) == "last words");
}

void EndsWhereNobodyReads() {
  signal(SIGPIPE, SIG_IGN);
  Pair socket = MakeSocket(), output = MakePipe();
  Drop(output.first);
  send(socket.first.get(), "\2x", 2, 0);
  Relay relay({socket.second.get(), -1, output.second.get(), STDERR_FILENO}, kNoSignals);
  EXPECT(relay.Run() == 128 + SIGPIPE);
}

void EndsByASignal() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGWINCH);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  const Fd signals(signalfd(-1, &set, SFD_CLOEXEC));
  Pair socket = MakeSocket();
  kill(getpid(), SIGWINCH);
  bool resized = false;
  Relay relay({socket.second.get(), -1, STDOUT_FILENO, STDERR_FILENO, signals.get()}, [&](int signal) {
    if (signal == SIGTERM) return 143;
    resized = true;
    kill(getpid(), SIGTERM);
    return 0;
  });
  EXPECT(relay.Run() == 143);
  EXPECT(resized);
}

}  // namespace

int main() {
  SplitsStreams();
  CarriesBothWays();
  OutputDoesNotWaitForInput();
  EndsWhereNobodyReads();
  EndsByASignal();
}
