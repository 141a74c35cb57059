#include "attach-packet.h"

#include <algorithm>

std::optional<Packet> ParsePacket(std::string_view packet) {
  if (packet.empty()) return std::nullopt;
  const auto stream = static_cast<Stream>(packet.front());
  if (stream != Stream::kOutput && stream != Stream::kError) return std::nullopt;
  return Packet{stream, packet.substr(1)};
}

std::string ResizeLine(const winsize& size) {
  constexpr unsigned short kLimit = 1000;
  return "1 " + std::to_string(std::min(size.ws_row, kLimit)) + " " + std::to_string(std::min(size.ws_col, kLimit)) +
         "\n";
}
