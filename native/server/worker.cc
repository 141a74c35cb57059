#include "worker.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "fuse-transport.h"
#include "fuse-uring-transport.h"
#include "log.h"

namespace {

/** Exit codes: another worker may fare better, or none will. */
constexpr int kRetry = 1, kHopeless = 2;

/** Its own writes are what the kernel may wait for to free memory, so it must not wait for memory by writing. */
void PrepareForPressure() {
#ifdef PR_SET_IO_FLUSHER
  if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0) {
    Log(std::string("may wait for itself when memory is short: PR_SET_IO_FLUSHER: ") + strerror(errno));
  }
#endif
  // Code and maps. What is mapped later is registered, or given back when idle, which locked memory can't be.
  if (mlockall(MCL_CURRENT | MCL_ONFAULT) < 0) {
    Log(std::string("may be paged out: mlockall: ") + strerror(errno));
  }
}

std::unique_ptr<ServerTransport> MakeTransport(const WorkerOptions& options, Ring& ring, Engine& engine) {
  switch (options.transport) {
    case TransportKind::kFuse:
      return std::make_unique<FuseTransport>(ring, engine, options.fuse, options.file_name);
    case TransportKind::kFuseUring:
      return std::make_unique<FuseUringTransport>(ring, engine, options.fuse, options.file_name);
  }
  return nullptr;
}

/** Returns the exit code. */
int Serve(const WorkerOptions& options) {
  LiveState state(options.live_state);
  Ring ring(options.transport == TransportKind::kFuseUring ? Ring::Entries::kWithCommands : Ring::Entries::kPlain);
  PrepareForPressure();
  Engine engine(ring, state);
  const std::unique_ptr<ServerTransport> transport = MakeTransport(options, ring, engine);
  engine.Connect(*transport);
  ring.SetSpin(options.spin_microseconds);
  options.start_control(ring, engine);
  transport->Start([&] {
    engine.Finish([&](int error) {
      if (error) Log("the last flush failed");
      ring.Stop();
    });
  });
  if (options.is_restart && !transport->AskAgain()) {
    Log(std::string("the kernel does not repeat a dead worker's requests: ") + strerror(errno));
    return kHopeless;
  }
  ring.Run();
  return 0;
}

}  // namespace

void RunWorker(const WorkerOptions& options) {
  try {
    // Not exit: the keeper's handlers are not the worker's.
    _exit(Serve(options));
  } catch (const SystemFailure& failure) {
    Log(Describe(failure));
    _exit(kRetry);
  } catch (const std::exception& failure) {
    Log(failure.what());
    _exit(kRetry);
  }
}
