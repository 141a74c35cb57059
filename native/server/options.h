#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "live-state.h"

/** What brings the requests of a served file. */
enum class TransportKind { kFuse, kFuseUring };

/** Whether the next worker gets what a dead one did not answer. */
constexpr bool SurvivesWorkers(TransportKind kind) {
  return kind == TransportKind::kFuse;
}

/** What a server is started with. Descriptors are inherited. */
struct ServerOptions {
  /** Of the one file in the anonymous file system; losetup shows it. */
  std::string name;
  uint64_t size_bytes = 0;
  /** Where the control socket is to be. Its directory's path may be of any length, its name 80 bytes long. */
  std::string control_path;
  std::string log_path;
  TransportKind transport = TransportKind::kFuse;
  /** How long to look out for the next request without sleeping. */
  unsigned spin_microseconds = 0;
  /** A read-only loop device on the image, which is only held; or -1. */
  int guard_fd = -1;
  /** Bottom first; the last is the top. */
  std::vector<Layer> layers;
};

/** Throws std::invalid_argument that names what is missing, unknown or not valid. */
ServerOptions ParseServerOptions(const std::vector<std::string>& arguments);

/** Decimal digits up to `most`; throws std::invalid_argument for anything else. */
uint64_t ParseDecimal(const std::string& text, uint64_t most);
