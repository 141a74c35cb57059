#pragma once

#include <cstddef>

#include "ring.h"

/**
 * The memory of a transport's requests: of each kMaxTransfer bytes of data, and right in front of them a page for what
 * the transport needs itself. All of it may be used at any time; it takes up room from then, or from `Fill`, to `Drop`.
 */
class RequestBuffers {
 public:
  /** The ring has no other registered buffers. All but the first `small` may lie in huge pages. Throws a SystemFailure.
   */
  RequestBuffers(Ring& ring, unsigned count, unsigned small);
  ~RequestBuffers();
  RequestBuffers(const RequestBuffers&) = delete;

  char* page(unsigned index) const;
  char* data(unsigned index) const;

  /** Makes room for some, at once and whole. */
  void Fill(unsigned first, unsigned count);
  /** Makes one the ring's registered buffer of that number. Returns how much of its data is: all of it, or nothing. */
  size_t Register(unsigned index);
  /** Takes some out of the ring and gives back their memory. No one uses them. */
  void Drop(unsigned first, unsigned count);

 private:
  Ring& ring_;
  unsigned count_;
  char* base_;
};
