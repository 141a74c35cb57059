#include "keeper-link.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cstring>
#include <string_view>
#include <vector>

#include "packet.h"

void KeeperLink::Send(KeeperRequest request, int fd) const {
  const std::string_view bytes(reinterpret_cast<const char*>(&request), sizeof request);
  if (!SendPacket(socket_.get(), bytes, fd < 0 ? std::vector<int>{} : std::vector{fd})) {
    throw SystemFailure{errno, "sendmsg", "keeper"};
  }
}

int KeeperLink::Ask(KeeperRequest request, int fd) const {
  Send(request, fd);
  int answer;
  const ssize_t length = Check(recv(socket_.get(), &answer, sizeof answer, 0), "recv", "keeper");
  if (length != sizeof answer) throw SystemFailure{EPIPE, "recv", "keeper"};
  if (answer < 0) throw SystemFailure{-answer, "ask", "keeper"};
  return answer;
}

void KeeperLink::TellServing() const {
  Send({KeeperVerb::kServing, -1}, -1);
}

int KeeperLink::Adopt(Fd fd) const {
  const int number = Ask({KeeperVerb::kAdopt, -1}, fd.get());
  return Check(dup3(fd.get(), number, O_CLOEXEC), "dup3");
}

void KeeperLink::Release(int fd) const {
  close(fd);
  Ask({KeeperVerb::kRelease, fd}, -1);
}

void KeeperLink::Unguard() const {
  Ask({KeeperVerb::kUnguard, -1}, -1);
}

ReceivedRequest ReceiveKeeperRequest(int socket) {
  std::optional<Packet> packet = ReceivePacket(socket, {.text = sizeof(KeeperRequest), .descriptors = 1}, "worker");
  if (!packet) throw SystemFailure{EAGAIN, "recvmsg", "worker"};
  ReceivedRequest received{};
  if (packet->is_cut || packet->text.size() != sizeof received.request) {
    throw SystemFailure{EPROTO, "recvmsg", "worker"};
  }
  std::memcpy(&received.request, packet->text.data(), sizeof received.request);
  if (packet->descriptors.size() != (received.request.verb == KeeperVerb::kAdopt ? 1 : 0)) {
    throw SystemFailure{EPROTO, "recvmsg", "worker"};
  }
  if (!packet->descriptors.empty()) received.fd = std::move(packet->descriptors[0]);
  return received;
}

void AnswerKeeperRequest(int socket, int answer) {
  Check(send(socket, &answer, sizeof answer, MSG_NOSIGNAL | MSG_DONTWAIT), "send", "worker");
}
