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
#include "packet.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxReply = 1 << 16;
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
    if (!SendPacket(socket.get(), request_, descriptors_)) throw SystemFailure{errno, "sendmsg", path_};
    socket_ = std::move(socket);
  }

  ControlReply Receive() const {
    std::optional<Packet> packet =
        ReceivePacket(socket_.get(), {.text = kMaxReply, .descriptors = kMaxPacketDescriptors}, path_);
    if (!packet) throw TryAgain{};
    if (packet->is_cut) throw SystemFailure{EMSGSIZE, "recvmsg", path_};
    return {std::move(packet->text), std::move(packet->descriptors)};
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
