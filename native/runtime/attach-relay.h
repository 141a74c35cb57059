#pragma once

#include <functional>
#include <string>
#include <vector>

#include "attach-packet.h"

/** The descriptors that a relay works between; it owns none of them. */
struct RelayEnds {
  /** conmon's attach socket, connected and non-blocking. */
  int socket;
  /** Where the container's input comes from, or -1. */
  int input;
  int output;
  int error;
  /** A signalfd, or -1. */
  int signals = -1;
};

/**
 * Carries bytes between conmon's attach socket and our own streams. Neither direction waits for the other: a container
 * that does not read its input still gets its output carried, and the other way round.
 */
class Relay {
 public:
  /** `on_signal` is told each signal that arrives; what it returns, unless 0, ends the relay with that code. */
  Relay(RelayEnds ends, std::function<int(int signal)> on_signal);

  /** Returns at the socket's end with 0, where an output is closed with 128 + SIGPIPE, or with what `on_signal`
   * returned. */
  int Run();

 private:
  void ReadInput();
  void SendInput();
  /** Returns false at the socket's end. */
  bool ReceivePacket();
  /** Returns false where nobody reads the output any more. */
  bool WriteOutput();
  void EndInput();

  RelayEnds ends_;
  std::function<int(int)> on_signal_;
  std::string pending_input_;
  std::vector<char> packet_ = std::vector<char>(kMaxPacket);
  std::string_view pending_output_;
  int pending_fd_ = -1;
};
