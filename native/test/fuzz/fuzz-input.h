#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

/** The entry of every fuzz target: libFuzzer's. It returns 0, and ends the program where something does not hold. */
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

/** Takes an input apart from its front; at its end there are zeroes. */
class FuzzInput {
 public:
  FuzzInput(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

  bool IsEmpty() const { return rest_.empty(); }

  template <typename Number>
  Number Take() {
    Number number{};
    const std::string_view bytes = TakeBytes(sizeof number);
    if (!bytes.empty()) std::memcpy(&number, bytes.data(), bytes.size());
    return number;
  }

  std::string_view TakeBytes(size_t most) {
    const std::string_view taken = rest_.substr(0, most);
    rest_.remove_prefix(taken.size());
    return taken;
  }

  /** Up to the separator, which goes with it. */
  std::string TakeUntil(char separator) {
    const size_t end = std::min(rest_.find(separator), rest_.size());
    std::string taken(rest_.substr(0, end));
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    return taken;
  }

 private:
  std::string_view rest_;
};
