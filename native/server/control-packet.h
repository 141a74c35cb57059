#pragma once

#include <optional>
#include <string>
#include <vector>

#include "system.h"

/** What came over a control connection. */
struct ControlPacket {
  std::string text;
  std::vector<Fd> descriptors;
  /** There was more, of text or descriptors, than a request has. */
  bool is_cut;
};

/** The next packet, its descriptors close-on-exec; nothing where none has come. Throws a SystemFailure at the
 * connection's end. */
std::optional<ControlPacket> ReceivePacket(int socket);

/** Sends without waiting; false where the peer does not take it. */
bool SendPacket(int socket, const std::string& text, const std::vector<int>& descriptors);
