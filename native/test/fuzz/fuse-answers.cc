/** A request of a FUSE connection: the header, then what follows it. */
#include "fuse-answers.h"

#include <algorithm>

#include "assert.h"
#include "fuse-request.h"
#include "fuzz-input.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzInput input(data, size);
  const auto header = input.Take<fuse_in_header>();
  // As in a transport's buffer: the kernel ends names with a zero, and there is room for every fixed body.
  alignas(8) char argument[512] = {};
  const std::string_view rest = input.TakeBytes(sizeof argument - 1);
  std::copy(rest.begin(), rest.end(), argument);
  const FuseFile file{.name = "db", .size_bytes = 1 << 20, .max_background = 56, .max_transfer = 1 << 20};
  Request request;
  // What it asks for is for the engine to judge.
  if (const std::optional<int> read = ReadFuseRequest(header.opcode, argument, request)) {
    EXPECT(*read == 0 || *read == -EOPNOTSUPP);
    EXPECT(request.operation <= Operation::kFlush);
    return 0;
  }
  OffersUring(argument);
  if (IsUnanswered(header.opcode)) return 0;
  const FuseAnswer answer = AnswerFuse(file, header, argument);
  EXPECT(answer.error <= 0 && answer.length <= sizeof answer.body);
  EXPECT(!answer.error || answer.length == 0);
  return 0;
}
