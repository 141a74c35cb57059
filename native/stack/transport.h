#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "layer.h"
#include "ring.h"

class Engine;

/** The longest read or write. */
constexpr size_t kMaxTransfer = 1 << 20;

enum class Operation : uint8_t { kRead, kWrite, kZero, kFlush };

/**
 * One request of the guest, from `Engine::Handle` to `Transport::Answer`. Its owner is the transport, which makes as
 * many as it can have under way; nothing is allocated later.
 */
class Request final : public Completion {
 public:
  // What the transport sets, once:
  Engine* engine = nullptr;
  /** kMaxTransfer bytes, page-aligned: of a write the data, of a read where it is to go. */
  char* data = nullptr;
  /** The registered buffer that begins with `registered` of these bytes. */
  unsigned buffer = 0;
  size_t registered = 0;

  // and for each request:
  Operation operation{};
  /** Multiples of kBlockBytes within the disk, the engine checks; kRead and kWrite at most kMaxTransfer long. */
  uint64_t offset = 0, length = 0;

  /** Its blocks. */
  uint64_t begin() const { return offset / kBlockBytes; }
  uint64_t end() const { return (offset + length) / kBlockBytes; }

  /** The engine keeps it for later, and nothing of it is under way. */
  bool is_parked() const { return is_parked_; }

  void Complete(unsigned kind, int result, unsigned flags) override;

 private:
  friend class Engine;

  bool is_parked_ = false;
  /** Reads that were sent and have not completed; an error of one. */
  unsigned under_way_ = 0;
  int error_ = 0;
  /** Bytes that were read or written, and of several reads the sum that they should have. */
  uint64_t done_ = 0, expected_ = 0;
  unsigned attempts_ = 0;
  /** Of a read that takes two layers whole: where the upper one's data goes, and which blocks of it count. */
  char* aside_ = nullptr;
  std::bitset<kMaxTransfer / kBlockBytes> from_aside_;
};

/** The side of the guest: the table of operations through which the engine answers, whatever brought the request. */
class Transport {
 public:
  virtual ~Transport() = default;

  /** The most entries that one `Answer` appends. */
  static constexpr unsigned kAnswerEntries = 2;

  /** Whether the entries of an answer may be linked to the one before them. */
  virtual bool IsLinkable() const = 0;

  /**
   * Appends the entries that answer a request and make its buffer ready for the next one. `error` is 0 or a negative
   * errno. Where they are linkable, the entry before them may be linked to the first: they take effect only when that
   * has succeeded, and until then the request is still the engine's. The engine has called `Ring::Room`.
   */
  virtual void Answer(Request& request, int error) = 0;

  /**
   * Hands out no further request, and calls back when none is under way: each one is answered, chained answers
   * included, or parked.
   */
  virtual void Quiesce(std::function<void()> done) = 0;
  /** The end of it. */
  virtual void Resume() = 0;
};
