#include "keeper-link.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cstring>

namespace {

/** Room for one descriptor. */
union OneDescriptor {
  char bytes[CMSG_SPACE(sizeof(int))];
  cmsghdr aligned;
};

}  // namespace

void KeeperLink::Send(KeeperRequest request, int fd) const {
  iovec body = {&request, sizeof request};
  OneDescriptor control = {};
  msghdr message = {};
  message.msg_iov = &body;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  Check(sendmsg(socket_.get(), &message, MSG_NOSIGNAL), "sendmsg", "keeper");
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
  ReceivedRequest received = {};
  iovec body = {&received.request, sizeof received.request};
  OneDescriptor control = {};
  msghdr message = {};
  message.msg_iov = &body;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  const ssize_t length = Check(recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT), "recvmsg", "worker");
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
    int fd;
    std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
    received.fd = Fd(fd);
  }
  if (length == 0) throw SystemFailure{ECONNRESET, "recvmsg", "worker"};
  const bool has_fd = static_cast<bool>(received.fd);
  if (length != sizeof received.request || has_fd != (received.request.verb == KeeperVerb::kAdopt)) {
    throw SystemFailure{EPROTO, "recvmsg", "worker"};
  }
  return received;
}

void AnswerKeeperRequest(int socket, int answer) {
  Check(send(socket, &answer, sizeof answer, MSG_NOSIGNAL | MSG_DONTWAIT), "send", "worker");
}
