#include <vector>

#include "arguments.h"
#include "async.h"
#include "sparse.h"

namespace {

/** The ranges in a Float64Array of starts and ends in turn. */
std::vector<DataRange> RangesArgument(const Napi::CallbackInfo& info, size_t index) {
  auto numbers = info[index].As<Napi::Float64Array>();
  std::vector<DataRange> ranges(numbers.ElementLength() / 2);
  for (size_t i = 0; i < ranges.size(); i++) {
    ranges[i] = {static_cast<int64_t>(numbers[2 * i]), static_cast<int64_t>(numbers[2 * i + 1])};
  }
  return ranges;
}

Napi::Value DataRangesCall(const Napi::CallbackInfo& info) {
  return RunAsync(
      info.Env(),
      [fd = IntArgument(info, 0), start = LongArgument(info, 1), end = LongArgument(info, 2)] {
        return DataRanges(fd, start, end);
      },
      [](Napi::Env env, const std::vector<DataRange>& ranges) -> Napi::Value {
        auto numbers = Napi::Float64Array::New(env, ranges.size() * 2);
        for (size_t i = 0; i < ranges.size(); i++) {
          numbers[2 * i] = static_cast<double>(ranges[i].start);
          numbers[2 * i + 1] = static_cast<double>(ranges[i].end);
        }
        return numbers;
      });
}

Napi::Value CopyRangesCall(const Napi::CallbackInfo& info) {
  return RunAsync(
      info.Env(),
      [source = IntArgument(info, 0), destination = IntArgument(info, 1), shift = LongArgument(info, 2),
       ranges = RangesArgument(info, 3),
       share = info[4].ToBoolean().Value()] { return CopyRanges(source, destination, shift, ranges, share); },
      [](Napi::Env env, int64_t shared) { return Napi::Number::New(env, static_cast<double>(shared)); });
}

Napi::Value StartWritebackCall(const Napi::CallbackInfo& info) {
  return RunAsync(info.Env(), [fd = IntArgument(info, 0), offset = LongArgument(info, 1),
                               length = LongArgument(info, 2)] { StartWriteback(fd, offset, length); });
}

}  // namespace

void InitViews(Napi::Env env, Napi::Object exports) {
  exports.Set("dataRanges", Napi::Function::New<DataRangesCall>(env));
  exports.Set("copyRanges", Napi::Function::New<CopyRangesCall>(env));
  exports.Set("startWriteback", Napi::Function::New<StartWritebackCall>(env));
}
