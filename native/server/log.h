#pragma once

#include <string>

#include "system.h"

/**
 * Opens the log, to be appended to, as the standard error of this process and those that it forks. One that has become
 * larger than 1 MiB begins anew.
 */
void OpenLog(const std::string& path);

/** Writes a line with time and process, in one write. */
void Log(const std::string& text);

/** The words of a failed system call: `open "/dev/fuse": No such file or directory`. */
std::string Describe(const SystemFailure& failure);
