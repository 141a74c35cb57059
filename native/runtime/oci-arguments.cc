#include "oci-arguments.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

bool OciArguments::IsCreate() const {
  // conmon writes `<global arguments> create --bundle DIR …`; the pair tells the verb from an option's value.
  const auto& arguments = runtime_arguments;
  for (size_t i = 0; i + 1 < arguments.size(); ++i) {
    if (arguments[i] == "create" && arguments[i + 1] == "--bundle") return true;
  }
  return false;
}

std::string OciArguments::PidFile() const {
  const auto& arguments = runtime_arguments;
  const auto option = std::find(arguments.begin(), arguments.end(), "--pid-file");
  return option == arguments.end() || option + 1 == arguments.end() ? "" : *(option + 1);
}

OciArguments ParseOciArguments(const std::vector<std::string>& arguments) {
  OciArguments parsed;
  const std::pair<const char*, std::string*> options[] = {
      {"--mount", &parsed.mount},
      {"--rootfs", &parsed.rootfs},
      {"--guardian", &parsed.guardian},
      {"--processes", &parsed.processes},
      {"--runtime", &parsed.runtime},
      {"--root", &parsed.root},
      {"--id", &parsed.id},
  };
  auto next = arguments.begin();
  for (; next != arguments.end() && *next != "--"; ++next) {
    const auto option =
        std::find_if(std::begin(options), std::end(options), [&](auto& known) { return *next == known.first; });
    if (option == std::end(options)) throw std::invalid_argument("unknown option " + *next);
    if (++next == arguments.end()) throw std::invalid_argument(std::string("missing value of ") + option->first);
    *option->second = *next;
  }
  if (next != arguments.end()) parsed.runtime_arguments.assign(next + 1, arguments.end());
  for (const auto& [name, value] : options) {
    const bool is_needed = value == &parsed.runtime || parsed.IsCreate();
    if (is_needed && value->empty()) throw std::invalid_argument(std::string("missing option ") + name);
  }
  return parsed;
}
