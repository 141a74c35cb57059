#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

/** When a process was started, in clock ticks since boot (field 22 of proc(5)'s `stat`); nothing where there is none.
 */
std::optional<uint64_t> ProcessStart(pid_t pid);
