#pragma once

#include <termios.h>

#include <string>

/** A terminal in raw mode, put back as it was with the object's end. Does nothing to what is no terminal. */
class RawTerminal {
 public:
  explicit RawTerminal(int fd);
  ~RawTerminal();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  int fd_;
  bool changed_ = false;
  termios before_ = {};
};

/** Tells conmon, by its `ctl`, the size of the terminal that is our standard input or output. A monitor that is gone is
 * no error. */
void SendTerminalSize(const std::string& ctl_path);
