#pragma once

#include <cstdint>
#include <string>

/**
 * Whether an operation on a file fails now, and with which errno; 0 where it does not.
 *
 * LOOPBOX_FAIL names a file of rules, which is read anew each time and may come, change and go meanwhile. A line is
 * `OPERATION PATTERN BEGIN END FIRST LAST ERRNO`: operations of that kind, or of kinds that are joined by `,`, on paths
 * that match the pattern of the shell, which touch the bytes from BEGIN until END. Of those the FIRST to the LAST fail,
 * counted from 1 in all processes together, by the length of a file whose name ends with `.N` for the rule N. Each that
 * fails is told of in the file with the ending `.failed`. Keeps errno.
 */
int FailureOf(const char* operation, const std::string& path, uint64_t offset = 0, uint64_t length = UINT64_MAX);

/** As above, of what is open. */
int FailureOfFile(const char* operation, int fd, uint64_t offset = 0, uint64_t length = UINT64_MAX);

/** An absolute path of what calls take as one. */
std::string AbsolutePath(int directory, const char* path);
