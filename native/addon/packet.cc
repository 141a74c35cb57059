#include "packet.h"

#include <sys/socket.h>

#include <cstring>

std::optional<Packet> ReceivePacket(int socket, PacketLimits limits, const std::string& peer) {
  Packet packet{.text = std::string(limits.text, '\0'), .descriptors = {}, .is_cut = false};
  iovec body{packet.text.data(), packet.text.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxPacketDescriptors * sizeof(int))];
  msghdr message{};
  message.msg_iov = &body;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(limits.descriptors * sizeof(int));
  const ssize_t length = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (length < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
  Check(length, "recvmsg", peer);
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      packet.descriptors.emplace_back(fd);
    }
  }
  if (length == 0) throw SystemFailure{ECONNRESET, "recvmsg", peer};
  packet.text.resize(length);
  packet.is_cut = message.msg_flags & (MSG_TRUNC | MSG_CTRUNC);
  return packet;
}

bool SendPacket(int socket, std::string_view text, const std::vector<int>& descriptors) {
  if (descriptors.size() > kMaxPacketDescriptors) {
    errno = EINVAL;
    return false;
  }
  iovec body{const_cast<char*>(text.data()), text.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxPacketDescriptors * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &body;
  message.msg_iovlen = 1;
  if (const size_t bytes = descriptors.size() * sizeof(int)) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(bytes);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(bytes);
    std::memcpy(CMSG_DATA(header), descriptors.data(), bytes);
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}
