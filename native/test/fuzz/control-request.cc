/** What comes to the control socket: a byte for the number of descriptors, then the packet. */
#include "control-request.h"

#include "assert.h"
#include "fuzz-input.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzInput input(data, size);
  const size_t descriptors = input.Take<uint8_t>() & 3;
  const auto parsed = ParseControlRequest(input.TakeBytes(size), descriptors);
  if (const auto* refusal = std::get_if<ControlRefusal>(&parsed)) {
    EXPECT(refusal->error == EINVAL || refusal->error == EPROTONOSUPPORT || refusal->error == EOPNOTSUPP);
    EXPECT(!refusal->text.empty());
    return 0;
  }
  const auto& request = std::get<ControlRequest>(parsed);
  EXPECT(descriptors == (request.verb == ControlVerb::kSwitch ? 2 : 0));
  for (const std::string* name : {&request.old_name, &request.kept_name, &request.next_name, &request.top_name}) {
    EXPECT(name->empty() == (request.verb != ControlVerb::kSwitch));
    EXPECT(name->size() <= 255 && name->find('/') == name->npos && name->find('\0') == name->npos);
    EXPECT(*name != "." && *name != "..");
  }
  for (const uint64_t number : {request.map_offset, request.data_offset, request.owned_end, request.slot, request.into,
                                request.block, request.size_bytes})
    EXPECT(number >> 63 == 0);
  return 0;
}
