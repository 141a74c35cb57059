#include "options.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <sstream>
#include <stdexcept>

namespace {

constexpr uint64_t kMaxOffset = std::numeric_limits<int64_t>::max();
constexpr uint64_t kMaxDescriptor = 1 << 20;
constexpr uint64_t kMaxSpinMicroseconds = 10'000;

/** `KIND:FD:SIZE:MAP_OFFSET:DATA_OFFSET:FIRST_BLOCK`. */
Layer ParseLayer(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ':');) parts.push_back(part);
  if (parts.size() != 6 || (parts[0] != "image" && parts[0] != "delta")) {
    throw std::invalid_argument("not a layer: " + text);
  }
  return {.fd = static_cast<int>(ParseDecimal(parts[1], kMaxDescriptor)),
          .is_image = parts[0] == "image",
          .size = ParseDecimal(parts[2], kMaxOffset),
          .map_offset = ParseDecimal(parts[3], kMaxOffset),
          .data_offset = ParseDecimal(parts[4], kMaxOffset),
          .first_block = ParseDecimal(parts[5], kMaxOffset)};
}

TransportKind ParseTransport(const std::string& name) {
  if (name == "fuse") return TransportKind::kFuse;
  if (name == "fuse-uring") return TransportKind::kFuseUring;
  throw std::invalid_argument("unknown transport " + name);
}

void Assign(ServerOptions& options, const std::string& name, const std::string& value) {
  if (name == "--name") {
    options.name = value;
  } else if (name == "--size") {
    options.size_bytes = ParseDecimal(value, kMaxOffset);
  } else if (name == "--control") {
    options.control_path = value;
  } else if (name == "--log") {
    options.log_path = value;
  } else if (name == "--transport") {
    options.transport = ParseTransport(value);
  } else if (name == "--spin") {
    options.spin_microseconds = static_cast<unsigned>(ParseDecimal(value, kMaxSpinMicroseconds));
  } else if (name == "--guard") {
    options.guard_fd = static_cast<int>(ParseDecimal(value, kMaxDescriptor));
  } else if (name == "--layer") {
    options.layers.push_back(ParseLayer(value));
  } else {
    throw std::invalid_argument("unknown option " + name);
  }
}

/** What the layers must be for the rest to be able to trust them. */
void CheckLayers(const ServerOptions& options) {
  for (size_t i = 0; i < options.layers.size(); ++i) {
    const Layer& layer = options.layers[i];
    if (layer.size == 0 || layer.size % kBlockBytes) throw std::invalid_argument("a layer's size is not valid");
    if (layer.is_image != (i == 0)) throw std::invalid_argument("the bottom layer, and no other, is an image");
  }
  if (options.layers.back().size != options.size_bytes)
    throw std::invalid_argument("the top is not as large as the disk");
}

}  // namespace

uint64_t ParseDecimal(const std::string& text, uint64_t most) {
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value > most) throw std::invalid_argument("not a number: " + text);
  return value;
}

ServerOptions ParseServerOptions(const std::vector<std::string>& arguments) {
  ServerOptions options;
  for (auto next = arguments.begin(); next != arguments.end(); next += 2) {
    if (next + 1 == arguments.end()) throw std::invalid_argument("missing value of " + *next);
    Assign(options, *next, *(next + 1));
  }
  if (options.name.empty() || options.name.size() > 255 || options.name.find('/') != options.name.npos) {
    throw std::invalid_argument("the name is missing or not valid");
  }
  if (options.control_path.empty() || options.log_path.empty()) throw std::invalid_argument("a path is missing");
  if (options.size_bytes == 0 || options.size_bytes % kBlockBytes) throw std::invalid_argument("the size is not valid");
  if (options.layers.empty() || options.layers.size() > kMaxLayers)
    throw std::invalid_argument("no layers, or too many");
  CheckLayers(options);
  return options;
}
