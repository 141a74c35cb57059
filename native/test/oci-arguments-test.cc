#include "oci-arguments.h"

#include <stdexcept>

#include "assert.h"

namespace {

const std::vector<std::string> kOptions = {"--mount",     "/proc/7/fd/20",
                                           "--rootfs",    "/run/x/rootfs",
                                           "--guardian",  "/proc/7/fd/21",
                                           "--processes", "/sys/fs/cgroup/pids/x",
                                           "--runtime",   "/usr/sbin/runc",
                                           "--root",      "/run/x/runtime",
                                           "--id",        "web"};

std::vector<std::string> With(std::vector<std::string> more) {
  more.insert(more.begin(), kOptions.begin(), kOptions.end());
  return more;
}

bool IsRefused(const std::vector<std::string>& arguments) {
  try {
    ParseOciArguments(arguments);
    return false;
  } catch (const std::invalid_argument&) {
    return true;
  }
}

}  // namespace

int main() {
  const auto create = ParseOciArguments(
      With({"--", "--root", "/run/x/runtime", "create", "--bundle", "/run/x", "--pid-file", "/run/x/pid", "web"}));
  EXPECT(create.mount == "/proc/7/fd/20" && create.id == "web" && create.guardian == "/proc/7/fd/21");
  EXPECT(create.runtime_arguments.size() == 8 && create.runtime_arguments[0] == "--root");
  EXPECT(create.IsCreate());
  EXPECT(create.PidFile() == "/run/x/pid");

  // A container, or a directory, may be called like the verb.
  EXPECT(!ParseOciArguments(With({"--", "--root", "create", "delete", "--force", "web"})).IsCreate());
  EXPECT(!ParseOciArguments(With({"--", "start", "create"})).IsCreate());
  EXPECT(ParseOciArguments(With({})).runtime_arguments.empty());
  EXPECT(ParseOciArguments(With({"--", "create", "--pid-file"})).PidFile().empty());

  EXPECT(IsRefused(With({"--unknown", "x"})));
  EXPECT(IsRefused(With({"--id"})));
  EXPECT(IsRefused({"--", "exec"}));
  EXPECT(IsRefused({"--runtime", "/usr/sbin/runc", "--", "create", "--bundle", "/run/x"}));
  EXPECT(ParseOciArguments({"--runtime", "/usr/sbin/runc", "--", "exec", "web"}).runtime_arguments.size() == 2);
}
