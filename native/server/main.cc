/**
 * loopbox-server: presents a chain of files as one flat file, in a FUSE file system that is mounted nowhere, for a loop
 * device to stand on. With --watch it is the watcher beside a container: see watch.h.
 */
#include <cstdio>
#include <stdexcept>

#include "keeper.h"
#include "log.h"
#include "watch.h"

int main(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  try {
    if (!arguments.empty() && arguments[0] == "--watch") return Watch({arguments.begin() + 1, arguments.end()});
    return Keeper(ParseServerOptions(arguments)).Run();
  } catch (const SystemFailure& failure) {
    fprintf(stderr, "loopbox-server: %s\n", Describe(failure).c_str());
  } catch (const std::invalid_argument& error) {
    fprintf(stderr, "loopbox-server: %s\n", error.what());
  }
  return 1;
}
