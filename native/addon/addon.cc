#include <napi.h>

#include <cctype>
#include <cstring>

#include "async.h"

void InitControl(Napi::Env env, Napi::Object exports);
void InitFiles(Napi::Env env, Napi::Object exports);
void InitLoop(Napi::Env env, Napi::Object exports);
void InitMounts(Napi::Env env, Napi::Object exports);
void InitProcesses(Napi::Env env, Napi::Object exports);
void InitStack(Napi::Env env, Napi::Object exports);
void InitTree(Napi::Env env, Napi::Object exports);
void InitViews(Napi::Env env, Napi::Object exports);

Napi::Error ToError(Napi::Env env, const SystemFailure& failure) {
  const char* name = strerrorname_np(failure.error);
  const char* text = strerrordesc_np(failure.error);
  std::string code = name ? name : "E" + std::to_string(failure.error);
  std::string description = text ? text : "unknown error";
  description[0] = static_cast<char>(std::tolower(description[0]));
  std::string message = code + ": " + description + ", " + failure.call;
  if (!failure.path.empty()) message += " '" + failure.path + "'";
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("errno", Napi::Number::New(env, -failure.error));
  error.Set("code", Napi::String::New(env, code));
  error.Set("syscall", Napi::String::New(env, failure.call));
  if (!failure.path.empty()) error.Set("path", Napi::String::New(env, failure.path));
  if (failure.entry >= 0) error.Set("entry", Napi::Number::New(env, failure.entry));
  return error;
}

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  InitControl(env, exports);
  InitFiles(env, exports);
  InitLoop(env, exports);
  InitMounts(env, exports);
  InitProcesses(env, exports);
  InitStack(env, exports);
  InitTree(env, exports);
  InitViews(env, exports);
  return exports;
}

NODE_API_MODULE(loopbox, Init)
