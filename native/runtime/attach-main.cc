/**
 * loopbox-attach: joins the caller's terminal or streams to a container's, by way of conmon's attach socket
 * (SOCK_SEQPACKET, which Node has no words for). Says so with a byte on descriptor 3 once it is connected. Ends with
 * the socket.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "attach-relay.h"
#include "attach-terminal.h"
#include "system.h"

namespace {

constexpr int kParent = 3;
constexpr useconds_t kResizeRetryMicroseconds = 5'000;
/** A line that conmon holds, read from one fifo and not yet in the next, is not seen; each size is told twice. */
constexpr useconds_t kResizeRepeatMicroseconds = 100'000;

struct Options {
  std::string socket;
  std::string ctl;
  bool tty = false;
  bool input = false;
};

std::optional<Options> ParseOptions(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    const bool has_value = i + 1 < argc;
    if (option == "--tty") {
      options.tty = true;
    } else if (option == "--stdin") {
      options.input = true;
    } else if (option == "--socket" && has_value) {
      options.socket = argv[++i];
    } else if (option == "--ctl" && has_value) {
      options.ctl = argv[++i];
    } else {
      return std::nullopt;
    }
  }
  if (options.socket.empty() || options.ctl.empty()) return std::nullopt;
  return options;
}

/** The path of a run directory may be longer than a socket's address: it is reached through its directory's descriptor.
 */
Fd Connect(const std::filesystem::path& path) {
  const Fd directory(
      Check(open(path.parent_path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC), "open", path.parent_path()));
  const std::string short_path = "/proc/self/fd/" + std::to_string(directory.get()) + "/" + path.filename().string();
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  if (short_path.size() >= sizeof address.sun_path) throw SystemFailure{ENAMETOOLONG, "connect", path};
  short_path.copy(address.sun_path, short_path.size());
  Fd socket_fd(Check(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), "socket"));
  Check(connect(socket_fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), "connect", path);
  Check(fcntl(socket_fd.get(), F_SETFL, O_NONBLOCK), "fcntl");
  return socket_fd;
}

Fd SignalDescriptor(std::initializer_list<int> signals) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) sigaddset(&set, signal);
  Check(sigprocmask(SIG_BLOCK, &set, nullptr), "sigprocmask");
  return Fd(Check(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd"));
}

int Attach(const Options& options) {
  signal(SIGPIPE, SIG_IGN);
  // They reach the whole foreground group; what they mean for the container is our parent's to decide.
  for (const int ignored : {SIGINT, SIGQUIT, SIGTERM}) signal(ignored, SIG_IGN);
  Fd signals;
  if (options.tty) signals = SignalDescriptor({SIGWINCH, SIGALRM, SIGHUP});
  Check(prctl(PR_SET_PDEATHSIG, SIGHUP), "prctl");

  const Fd socket_fd = Connect(options.socket);
  std::optional<RawTerminal> terminal;
  if (options.tty) {
    terminal.emplace(STDIN_FILENO);
    SendTerminalSize(options.ctl);
  }
  // Fails where the parent died before it could be named in PR_SET_PDEATHSIG.
  Check(write(kParent, "", 1), "write");
  close(kParent);

  Relay relay({.socket = socket_fd.get(),
               .input = options.input ? STDIN_FILENO : -1,
               .output = STDOUT_FILENO,
               .error = STDERR_FILENO,
               .signals = options.tty ? signals.get() : -1},
              [&options, repeats = 0](int signal) mutable {
                if (signal == SIGHUP) return 128 + signal;
                if (signal == SIGWINCH) repeats = 1;
                if (!SendTerminalSize(options.ctl)) {
                  ualarm(kResizeRetryMicroseconds, 0);
                } else if (repeats-- > 0) {
                  ualarm(kResizeRepeatMicroseconds, 0);
                }
                return 0;
              });
  return relay.Run();
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = ParseOptions(argc, argv);
  if (!options) {
    fputs("usage: loopbox-attach --socket PATH --ctl PATH [--tty] [--stdin], with the parent's pipe as descriptor 3\n",
          stderr);
    return 2;
  }
  try {
    return Attach(*options);
  } catch (const SystemFailure& failure) {
    fprintf(stderr, "loopbox-attach: %s (%s %s)\n", strerror(failure.error), failure.call, failure.path.c_str());
    return 1;
  }
}
