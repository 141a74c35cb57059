#include "control-socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>

namespace {

constexpr int kBacklog = 64;

/** An address by way of the directory's descriptor: a path may be longer than an address. */
sockaddr_un AddressIn(int directory, const std::string& name, const std::string& path) {
  const std::string address = "/proc/self/fd/" + std::to_string(directory) + "/" + name;
  sockaddr_un result = {.sun_family = AF_UNIX, .sun_path = {}};
  if (address.size() >= sizeof result.sun_path) throw SystemFailure{ENAMETOOLONG, "bind", path};
  std::memcpy(result.sun_path, address.c_str(), address.size() + 1);
  return result;
}

}  // namespace

Fd ListenForControl(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string parent = slash == path.npos ? "." : path.substr(0, slash + 1);
  const std::string name = slash == path.npos ? path : path.substr(slash + 1);
  const Fd directory(Check(open(parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC), "open", parent));
  if (unlinkat(directory.get(), name.c_str(), 0) < 0 && errno != ENOENT) throw SystemFailure{errno, "unlink", path};

  Fd socket(Check(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "socket"));
  const sockaddr_un address = AddressIn(directory.get(), name, path);
  // The name is never there with another mode.
  const mode_t before = umask(0177);
  const int bound = bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int error = errno;
  umask(before);
  if (bound < 0) throw SystemFailure{error, "bind", path};
  Check(listen(socket.get(), kBacklog), "listen", path);
  return socket;
}
