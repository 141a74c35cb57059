#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "packet.h"

/** The closed set of what a server can be asked. */
enum class ControlVerb { kStatus, kLayers, kSwitch, kFlush, kAbsorb, kMoved, kDrop, kGrow, kRelease, kUnguard };

/** The newest version of the control protocol. The one before it is understood, too, once there is one. */
constexpr int kControlVersion = 1;

/** No request is longer: four names of 255 bytes, and numbers. */
constexpr size_t kMaxControlRequest = 4096;

constexpr PacketLimits kControlLimits = {.text = kMaxControlRequest, .descriptors = 4};

/** A request as it was asked; what its verb does not take is empty or 0. */
struct ControlRequest {
  ControlVerb verb = ControlVerb::kStatus;
  /** Names in the directory that comes with the request: of today's top, and what that is called afterwards. */
  std::string old_name = {};
  std::string kept_name = {};
  /** Of the prepared top, and what that is called afterwards. */
  std::string next_name = {};
  std::string top_name = {};
  /** Of the prepared top. */
  uint64_t map_offset = 0;
  uint64_t data_offset = 0;
  /** It has none of the disk's blocks from this one on. */
  uint64_t owned_end = 0;
  /** The layer that is absorbed, folded or dropped. */
  uint64_t slot = 0;
  /** The layer that a fold writes to. */
  uint64_t into = 0;
  /** Where an absorb goes on, or up to where a fold has come. */
  uint64_t block = 0;
  uint64_t size_bytes = 0;
};

/** Why a packet is no request: an errno, and words for people. */
struct ControlRefusal {
  int error;
  std::string text;
};

/**
 * Parses one packet that came with this many descriptors: `loopbox 1 VERB`, then a line `key=value` for each key of the
 * verb, in any order, each once. Numbers are decimal and below 2^63; names are those of files, without a slash.
 * Anything else is refused: EPROTONOSUPPORT for another version, EOPNOTSUPP for an unknown verb, EINVAL for the rest.
 * Never throws.
 */
std::variant<ControlRequest, ControlRefusal> ParseControlRequest(std::string_view packet, size_t descriptors);
