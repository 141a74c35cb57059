#include "attach-terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

#include "attach-packet.h"
#include "system.h"

RawTerminal::RawTerminal(int fd) : fd_(fd) {
  if (tcgetattr(fd, &before_) != 0) return;
  termios raw = before_;
  cfmakeraw(&raw);
  changed_ = tcsetattr(fd, TCSANOW, &raw) == 0;
}

RawTerminal::~RawTerminal() {
  // Not TCSADRAIN: it would wait for a terminal whose output is held.
  if (changed_) tcsetattr(fd_, TCSANOW, &before_);
}

namespace {

/** Whether lines that were written to a fifo of conmon's wait to be read. One that is not there holds none. */
bool HoldsLines(const std::filesystem::path& path) {
  const Fd fifo(open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  int unread = 0;
  return fifo && ioctl(fifo.get(), FIONREAD, &unread) == 0 && unread > 0;
}

}  // namespace

bool SendTerminalSize(const std::filesystem::path& ctl_path) {
  winsize size;
  if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) != 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return true;
  if (size.ws_row == 0 || size.ws_col == 0) return true;
  const Fd ctl(open(ctl_path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  if (!ctl) return true;
  if (HoldsLines(ctl_path) || HoldsLines(ctl_path.parent_path() / "winsz")) return false;
  const std::string line = ResizeLine(size);
  return write(ctl.get(), line.data(), line.size()) >= 0 || errno != EAGAIN;
}
