#include "attach-relay.h"

#include <limits.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <utility>

#include "system.h"

namespace {

constexpr int kOutputClosed = 128 + SIGPIPE;

bool IsTransient() {
  return errno == EINTR || errno == EAGAIN;
}

/** An entry for poll; one without events is left out, since poll reports a hang-up unasked, again and again. */
pollfd Watch(int fd, short events) {
  return {.fd = events ? fd : -1, .events = events, .revents = 0};
}

}  // namespace

Relay::Relay(RelayEnds ends, std::function<int(int)> on_signal) : ends_(ends), on_signal_(std::move(on_signal)) {}

int Relay::Run() {
  for (;;) {
    const bool has_output = !pending_output_.empty();
    const bool has_input = !pending_input_.empty();
    const auto socket_events = static_cast<short>((has_output ? 0 : POLLIN) | (has_input ? POLLOUT : 0));
    std::array<pollfd, 4> watched = {Watch(ends_.signals, POLLIN), Watch(ends_.socket, socket_events),
                                     Watch(ends_.input, has_input ? 0 : POLLIN),
                                     Watch(pending_fd_, has_output ? POLLOUT : 0)};
    if (poll(watched.data(), watched.size(), -1) < 0) {
      if (IsTransient()) continue;
      throw SystemFailure{errno, "poll"};
    }
    const auto& [signals, socket, input, output] = watched;

    if (signals.revents) {
      signalfd_siginfo info;
      if (read(ends_.signals, &info, sizeof info) == sizeof info) {
        if (const int code = on_signal_(static_cast<int>(info.ssi_signo))) return code;
      }
    }
    if (output.revents && !WriteOutput()) return kOutputClosed;
    if (input.revents) ReadInput();
    if (has_input && socket.revents) SendInput();
    if (!has_output && (socket.revents & ~POLLOUT) && !ReceivePacket()) return 0;
  }
}

void Relay::ReadInput() {
  std::array<char, kMaxInput> buffer;
  const ssize_t count = read(ends_.input, buffer.data(), buffer.size());
  if (count < 0 && IsTransient()) return;
  if (count <= 0) return EndInput();
  pending_input_.assign(buffer.data(), count);
  SendInput();
}

void Relay::SendInput() {
  if (send(ends_.socket, pending_input_.data(), pending_input_.size(), MSG_NOSIGNAL) < 0) {
    if (IsTransient()) return;
    // The container's input is closed; its output may go on.
    EndInput();
  }
  pending_input_.clear();
}

void Relay::EndInput() {
  shutdown(ends_.socket, SHUT_WR);
  ends_.input = -1;
}

bool Relay::ReceivePacket() {
  const ssize_t count = recv(ends_.socket, packet_.data(), packet_.size(), MSG_DONTWAIT);
  // ECONNRESET says that conmon ended with input of ours unread; packets sent before still follow.
  if (count < 0 && (IsTransient() || errno == ECONNRESET)) return true;
  if (count < 0) throw SystemFailure{errno, "recv"};
  if (count == 0) return false;
  if (const auto packet = ParsePacket({packet_.data(), static_cast<size_t>(count)})) {
    pending_output_ = packet->content;
    pending_fd_ = packet->stream == Stream::kOutput ? ends_.output : ends_.error;
  }
  return true;
}

bool Relay::WriteOutput() {
  // A pipe that poll calls writable takes PIPE_BUF bytes without blocking, not more.
  const ssize_t count = write(pending_fd_, pending_output_.data(), std::min<size_t>(pending_output_.size(), PIPE_BUF));
  if (count < 0) return IsTransient();
  pending_output_.remove_prefix(count);
  return true;
}
