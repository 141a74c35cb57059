#pragma once

#include <termios.h>

#include <filesystem>

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

/**
 * Tells conmon, by its `ctl`, the size of the terminal that is our standard input or output. A monitor that is gone is
 * no error. Returns false where it has to be told again: of several lines that conmon reads at once it repeats the
 * first and forgets the others, so that a line is written only when the last one has been read, from `ctl` and from
 * `winsz` beside it, by which conmon hands it on to itself.
 */
bool SendTerminalSize(const std::filesystem::path& ctl_path);
