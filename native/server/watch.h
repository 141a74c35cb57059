#pragma once

#include <string>
#include <vector>

/**
 * `loopbox-server --watch --keeper PID:START --init PID:START --mark FILE --processes FILE [--thaw FILE:VALUE]`: waits
 * until the container's first process ends, or the keeper of its storage server does; processes are told from later
 * owners of their number by their start time. Where the container outlives its storage, it makes the mark, kills the
 * container (thawing it first, since what is frozen does not die), and what is listed in `--processes`, its
 * cgroup.procs. Returns the exit code.
 */
int Watch(const std::vector<std::string>& arguments);
