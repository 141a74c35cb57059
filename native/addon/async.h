#pragma once

#include <napi.h>

#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "system.h"

/** The failure as Node reports failed system calls: errno (negative), code, syscall, path; and `entry` where it has
 * one. */
Napi::Error ToError(Napi::Env env, const SystemFailure& failure);

/** Thrown by the body of a RunAsync to be queued again behind the pool's other work, instead of blocking its thread. */
struct TryAgain {};

inline Napi::Value ToNapi(Napi::Env env, int value) {
  return Napi::Number::New(env, value);
}

/** Runs `work` on the pool. It must own all that it uses; what JavaScript owns is kept alive by `keep`. */
template <typename Work, typename Convert>
class AsyncCall : public Napi::AsyncWorker {
 public:
  using Value = std::invoke_result_t<Work&>;

  AsyncCall(Napi::Env env, Work work, Convert convert, Napi::Promise::Deferred deferred, Napi::ObjectReference keep)
      : AsyncWorker(env),
        work_(std::move(work)),
        convert_(std::move(convert)),
        deferred_(deferred),
        keep_(std::move(keep)) {}

  void Execute() override {
    try {
      if constexpr (std::is_void_v<Value>) {
        work_();
      } else {
        value_ = work_();
      }
    } catch (const SystemFailure& failure) {
      failure_ = failure;
    } catch (TryAgain) {
      again_ = true;
    }
  }

  void OnOK() override {
    Napi::Env env = Env();
    if (again_) {
      (new AsyncCall(env, std::move(work_), std::move(convert_), deferred_, std::move(keep_)))->Queue();
    } else if (failure_) {
      deferred_.Reject(ToError(env, *failure_).Value());
    } else if constexpr (std::is_void_v<Value>) {
      deferred_.Resolve(env.Undefined());
    } else {
      deferred_.Resolve(convert_(env, *value_));
    }
  }

  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  using Stored = std::conditional_t<std::is_void_v<Value>, int, Value>;

  Work work_;
  Convert convert_;
  Napi::Promise::Deferred deferred_;
  Napi::ObjectReference keep_;
  std::optional<Stored> value_;
  std::optional<SystemFailure> failure_;
  bool again_ = false;
};

/** A promise of what `work` returns, made a JavaScript value by `convert(env, value)`. */
template <typename Work, typename Convert>
Napi::Value RunAsync(Napi::Env env, Work work, Convert convert, Napi::ObjectReference keep = {}) {
  auto deferred = Napi::Promise::Deferred::New(env);
  // The worker deletes itself after OnOK or OnError.
  (new AsyncCall(env, std::move(work), std::move(convert), deferred, std::move(keep)))->Queue();
  return deferred.Promise();
}

/** The same for work that returns a number or nothing. */
template <typename Work>
Napi::Value RunAsync(Napi::Env env, Work work) {
  return RunAsync(env, std::move(work), [](Napi::Env e, int value) { return ToNapi(e, value); });
}

/** Runs what can't block at once, with the same errors. */
template <typename Work>
Napi::Value RunNow(Napi::Env env, Work work) {
  try {
    return work();
  } catch (const SystemFailure& failure) {
    throw ToError(env, failure);
  }
}
