#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "arguments.h"
#include "async.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxReply = 1 << 16;
/** The kernel's own limit of descriptors in one message (SCM_MAX_FD). */
constexpr size_t kMaxDescriptors = 253;
/** How long a turn may wait before the thread is given back to the pool. */
constexpr auto kTurn = std::chrono::milliseconds(50);

struct ControlReply {
  std::string text;
  std::vector<Fd> descriptors;
};

/** One request over a connection of its own, and its reply. */
class ControlExchange {
 public:
  ControlExchange(std::string path, std::string request, std::vector<int> descriptors,
                  std::chrono::milliseconds patience)
      : path_(std::move(path)),
        request_(std::move(request)),
        descriptors_(std::move(descriptors)),
        deadline_(Clock::now() + patience) {}

  ControlReply operator()() {
    if (!socket_) Begin();
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_ - Clock::now());
    pollfd readable = {.fd = socket_.get(), .events = POLLIN, .revents = 0};
    const auto turn = std::clamp(left, std::chrono::milliseconds(0), kTurn);
    if (poll(&readable, 1, static_cast<int>(turn.count())) > 0) return Receive();
    if (Clock::now() >= deadline_) throw SystemFailure{ETIMEDOUT, "recvmsg", path_};
    throw TryAgain{};
  }

 private:
  void Begin() {
    const size_t slash = path_.rfind('/');
    const std::string parent = slash == path_.npos ? "." : path_.substr(0, slash + 1);
    const Fd directory(Check(open(parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC), "open", parent));
    // By way of the directory's descriptor: a path may be longer than an address.
    const std::string address =
        "/proc/self/fd/" + std::to_string(directory.get()) + "/" + path_.substr(slash == path_.npos ? 0 : slash + 1);
    sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = {}};
    if (address.size() >= sizeof name.sun_path) throw SystemFailure{ENAMETOOLONG, "connect", path_};
    std::memcpy(name.sun_path, address.c_str(), address.size() + 1);
    Fd socket(Check(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket"));
    Check(connect(socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name), "connect", path_);
    Send(socket.get());
    socket_ = std::move(socket);
  }

  void Send(int socket) const {
    iovec body = {const_cast<char*>(request_.data()), request_.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))] = {};
    msghdr message = {};
    message.msg_iov = &body;
    message.msg_iovlen = 1;
    if (descriptors_.size() > kMaxDescriptors) throw SystemFailure{EINVAL, "sendmsg", path_};
    if (const size_t bytes = descriptors_.size() * sizeof(int)) {
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(bytes);
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(bytes);
      std::memcpy(CMSG_DATA(header), descriptors_.data(), bytes);
    }
    Check(sendmsg(socket, &message, MSG_NOSIGNAL), "sendmsg", path_);
  }

  ControlReply Receive() const {
    ControlReply reply = {.text = std::string(kMaxReply, '\0'), .descriptors = {}};
    iovec body = {reply.text.data(), reply.text.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))];
    msghdr message = {};
    message.msg_iov = &body;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t length = Check(recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC), "recvmsg", path_);
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; i++) {
        int fd;
        std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
        reply.descriptors.emplace_back(fd);
      }
    }
    if (length == 0) throw SystemFailure{ECONNRESET, "recvmsg", path_};
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) throw SystemFailure{EMSGSIZE, "recvmsg", path_};
    reply.text.resize(length);
    return reply;
  }

  std::string path_;
  std::string request_;
  std::vector<int> descriptors_;
  Clock::time_point deadline_;
  Fd socket_;
};

Napi::Value ControlCall(const Napi::CallbackInfo& info) {
  auto list = info[2].As<Napi::Array>();
  std::vector<int> descriptors(list.Length());
  for (uint32_t i = 0; i < list.Length(); i++) descriptors[i] = list.Get(i).As<Napi::Number>();
  ControlExchange exchange(StringArgument(info, 0), StringArgument(info, 1), std::move(descriptors),
                           std::chrono::milliseconds(LongArgument(info, 3)));
  return RunAsync(info.Env(), std::move(exchange), [](Napi::Env env, ControlReply& reply) {
    Napi::Array fds = Napi::Array::New(env, reply.descriptors.size());
    for (uint32_t i = 0; i < reply.descriptors.size(); i++) fds.Set(i, reply.descriptors[i].release());
    Napi::Object result = Napi::Object::New(env);
    result.Set("reply", reply.text);
    result.Set("fds", fds);
    return result;
  });
}

}  // namespace

void InitControl(Napi::Env env, Napi::Object exports) {
  exports.Set("controlCall", Napi::Function::New<ControlCall>(env));
}
