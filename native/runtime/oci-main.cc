/**
 * loopbox-oci: conmon starts it in place of the OCI runtime, and it ends by becoming the OCI runtime. On the way it
 * takes the container's file system, a mount that so far exists only as a descriptor of the starter, into a mount
 * namespace that only the container will live in.
 */
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "guardian.h"
#include "oci-arguments.h"
#include "private-mount.h"
#include "system.h"

namespace {

void Become(const std::string& program, const std::vector<std::string>& arguments) {
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  Check(execv(program.c_str(), argv.data()), "execve", program);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const OciArguments arguments = ParseOciArguments({argv + 1, argv + argc});
    if (arguments.IsCreate()) {
      StartGuardian(arguments);
      MountPrivately(arguments.mount, arguments.rootfs);
    }
    Become(arguments.runtime, arguments.runtime_arguments);
  } catch (const SystemFailure& failure) {
    fprintf(stderr, "loopbox-oci: %s (%s %s)\n", strerror(failure.error), failure.call, failure.path.c_str());
  } catch (const std::invalid_argument& error) {
    fprintf(stderr, "loopbox-oci: %s\n", error.what());
  }
  return 1;
}
