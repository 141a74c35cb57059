#pragma once

#include <cstdint>
#include <string>

#include "fuse-protocol.h"

/** What a server says of itself and of its one file. */
struct FuseFile {
  std::string name;
  /**
   * What the disk may ever grow to; the loop device on it has the disk's size as its limit. A size that grew would not
   * do: where a write is answered while the kernel asks for it, the kernel drops what it is told, and the loop device
   * stays as small as it was.
   */
  uint64_t size_bytes;
  /** The most requests that the kernel sends at once, of those that no one waits for by sleeping. */
  uint16_t max_background;
  uint32_t max_transfer;
  /** Whether requests are to come through a ring. */
  bool is_over_uring = false;
};

/** The body of an answer, or an error. */
struct FuseAnswer {
  int error = 0;
  uint32_t length = 0;
  char body[256];
};

/** Whether the kernel takes no answer to such a request. */
bool IsUnanswered(uint32_t opcode);

/** Whether the kernel offers to send requests through a ring, in the `argument` of INIT. */
bool OffersUring(const char* argument);

/** Answers whatever is not the data path. `argument` is what follows the header: of LOOKUP a name that ends with 0. */
FuseAnswer AnswerFuse(const FuseFile& file, const fuse_in_header& header, const char* argument);

/** Sends an answer by write(2). */
void WriteFuseAnswer(int fuse, uint64_t unique, const FuseAnswer& answer);

/** Whether a connection has ended. */
bool IsFuseDisconnected(int fuse);
