#include <fcntl.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>

#include "arguments.h"
#include "async.h"

namespace {

Napi::Value Pipe(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return RunNow(env, [&] {
    int ends[2];
    Check(pipe2(ends, O_CLOEXEC), "pipe2");
    Napi::Array both = Napi::Array::New(env, 2);
    both.Set(0u, ends[0]);
    both.Set(1u, ends[1]);
    return both;
  });
}

Napi::Value OpenPidfd(const Napi::CallbackInfo& info) {
  int pid = IntArgument(info, 0);
  return RunNow(info.Env(), [&] {
    // Close-on-exec by nature.
    return ToNapi(info.Env(), Check(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)), "pidfd_open"));
  });
}

Napi::Value SignalPidfd(const Napi::CallbackInfo& info) {
  int pidfd = IntArgument(info, 0), signal = IntArgument(info, 1);
  return RunNow(info.Env(), [&] {
    Check(syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0), "pidfd_send_signal");
    return info.Env().Undefined();
  });
}

}  // namespace

void InitProcesses(Napi::Env env, Napi::Object exports) {
  exports.Set("pipe", Napi::Function::New<Pipe>(env));
  exports.Set("openPidfd", Napi::Function::New<OpenPidfd>(env));
  exports.Set("signalPidfd", Napi::Function::New<SignalPidfd>(env));
}
