/**
 * loopbox-oci: started in place of the OCI runtime, it ends by becoming the OCI runtime, in a mount namespace of its
 * own. For a create it takes along the container's file system, a mount that so far exists only as a descriptor of the
 * starter. For other verbs there is nothing to take, but runtimes mount their own program over itself for a moment,
 * which is not to be seen on the host, nor to stay there where they are killed.
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
    } else {
      UnshareMounts();
    }
    Become(arguments.runtime, arguments.runtime_arguments);
  } catch (const SystemFailure& failure) {
    fprintf(stderr, "loopbox-oci: %s (%s %s)\n", strerror(failure.error), failure.call, failure.path.c_str());
  } catch (const std::invalid_argument& error) {
    fprintf(stderr, "loopbox-oci: %s\n", error.what());
  }
  return 1;
}
