#pragma once

#include <sys/ioctl.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

/** Which of the container's streams a packet of conmon's attach socket carries (conmon: src/utils.h, stdpipe_t). */
enum class Stream : unsigned char { kOutput = 2, kError = 3 };

struct Packet {
  Stream stream;
  std::string_view content;
};

/** conmon reads its clients' packets into a buffer; what is longer is cut. Older releases have this much room. */
inline constexpr size_t kMaxInput = 8192;

/** More than any packet that conmon sends: a byte for the stream and at most 8 KiB (32 KiB in later releases). */
inline constexpr size_t kMaxPacket = 65536;

/** Nothing for an empty packet or an unknown stream. */
std::optional<Packet> ParsePacket(std::string_view packet);

/** The line for conmon's `ctl` that tells the container's terminal its size. conmon refuses more than 1000 rows or
 * columns. */
std::string ResizeLine(const winsize& size);
