/** Arguments, one a line, of the storage server and of loopbox-oci. */
#include <stdexcept>

#include "assert.h"
#include "fuzz-input.h"
#include "oci-arguments.h"
#include "options.h"

namespace {

void CheckServerOptions(const std::vector<std::string>& arguments) {
  try {
    const ServerOptions options = ParseServerOptions(arguments);
    EXPECT(!options.name.empty() && options.name.find('/') == std::string::npos);
    EXPECT(!options.layers.empty() && options.layers.size() <= kMaxLayers && options.layers[0].is_image);
    EXPECT(options.layers.back().size == options.size_bytes && options.size_bytes % kBlockBytes == 0);
    for (const Layer& layer : options.layers) EXPECT(layer.fd >= 0 && layer.size > 0 && layer.size >> 63 == 0);
  } catch (const std::invalid_argument&) {
    // It says what is wrong.
  }
}

void CheckOciArguments(const std::vector<std::string>& arguments) {
  try {
    const OciArguments parsed = ParseOciArguments(arguments);
    EXPECT(!parsed.runtime.empty());
    if (parsed.IsCreate()) EXPECT(!parsed.mount.empty() && !parsed.guardian.empty());
    parsed.PidFile();
  } catch (const std::invalid_argument&) {
    // It says what is wrong.
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzInput input(data, size);
  std::vector<std::string> arguments;
  while (!input.IsEmpty()) arguments.push_back(input.TakeUntil('\n'));
  CheckServerOptions(arguments);
  CheckOciArguments(arguments);
  return 0;
}
