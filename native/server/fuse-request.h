#pragma once

#include <cstdint>
#include <optional>

#include "transport.h"

/**
 * Reads what a request of the data path asks for. `argument` is what follows its header. Returns nothing for any other
 * request, a negative errno for one that can't be done, else 0.
 */
std::optional<int> ReadFuseRequest(uint32_t opcode, const char* argument, Request& request);
