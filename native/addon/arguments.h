#pragma once

#include <napi.h>

#include <cstdint>
#include <string>

/** A descriptor or another 32-bit number. Wrong types throw Node's own TypeError. */
inline int IntArgument(const Napi::CallbackInfo& info, size_t index) {
  return info[index].As<Napi::Number>();
}

/** A byte count or offset. */
inline int64_t LongArgument(const Napi::CallbackInfo& info, size_t index) {
  return info[index].As<Napi::Number>();
}

inline std::string StringArgument(const Napi::CallbackInfo& info, size_t index) {
  return info[index].As<Napi::String>();
}
