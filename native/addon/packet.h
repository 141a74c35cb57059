#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "system.h"

/** What comes at once over a connection that keeps packets apart. */
struct Packet {
  std::string text;
  std::vector<Fd> descriptors;
  /** There was more than the limits allow, of text or descriptors. */
  bool is_cut;
};

struct PacketLimits {
  size_t text;
  size_t descriptors;
};

/** The kernel's own limit of descriptors in a packet (SCM_MAX_FD). */
constexpr size_t kMaxPacketDescriptors = 253;

/**
 * The next packet, its descriptors close-on-exec; nothing where none has come. Throws a SystemFailure that names
 * `peer`: ECONNRESET at the connection's end, or for a packet without text.
 */
std::optional<Packet> ReceivePacket(int socket, PacketLimits limits, const std::string& peer = {});

/** Sends without waiting. Returns false with errno where the peer does not take it. */
bool SendPacket(int socket, std::string_view text, const std::vector<int>& descriptors = {});
