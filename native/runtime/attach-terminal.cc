#include "attach-terminal.h"

#include <fcntl.h>
#include <unistd.h>

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

void SendTerminalSize(const std::string& ctl_path) {
  winsize size;
  if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) != 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return;
  if (size.ws_row == 0 || size.ws_col == 0) return;
  const Fd ctl(open(ctl_path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  const std::string line = ResizeLine(size);
  if (ctl && write(ctl.get(), line.data(), line.size()) < 0) return;
}
