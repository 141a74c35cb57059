#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>

#include "engine.h"
#include "fuse-answers.h"
#include "request-buffers.h"
#include "server-transport.h"

/**
 * Requests of the one file of a FUSE connection, by /dev/fuse: read as they come by one entry that stays, each into a
 * buffer of its own, and answered by a chain of entries that ends with giving the buffer back. All of it is silent
 * while it succeeds.
 */
class FuseTransport final : public ServerTransport, private Completion {
 public:
  /** `fuse` is someone else's. Throws a SystemFailure. */
  FuseTransport(Ring& ring, Engine& engine, int fuse, std::string file_name);

  void Start(std::function<void()> ended) override;
  bool AskAgain() override;
  bool IsLinkable() const override { return true; }
  void Answer(Request& request, int error) override;
  void Quiesce(std::function<void()> done) override;
  void Resume() override;

 private:
  static constexpr unsigned kBuffers = 64;

  struct Slot final : Completion {
    FuseTransport* transport = nullptr;
    Request request;
    uint64_t unique = 0;
    /** Taken back from the kernel to let no further request come. */
    bool is_withheld = false;
    struct {
      fuse_out_header header;
      fuse_write_out write;
    } out;

    void Complete(unsigned kind, int result, unsigned flags) override;
  };

  enum Kind : unsigned { kRequest, kWithheld };
  enum SlotKind : unsigned { kAnswer, kProvide };

  /** Makes more buffers ready: populated, pinned, and the kernel's. */
  void AddBuffers(unsigned count);
  /** Gives back the memory of all buffers but the first few. None is in use. */
  void RemoveBuffers();

  void Complete(unsigned kind, int result, unsigned flags) override;
  void Receive();
  void Received(int result, unsigned flags);
  void Provide(Slot& slot);
  void Withhold();
  void Withheld(int count);
  void Take(Slot& slot);
  void AnswerOther(const Slot& slot, const fuse_in_header& header);
  /** Watches for the connection's end as soon as no requests come. */
  void WatchForEnd();
  void Tick();
  void End();

  Ring& ring_;
  Engine& engine_;
  int fuse_, file_;
  std::string file_name_;
  std::function<void()> ended_, quiesced_;
  RequestBuffers buffers_;
  std::array<Slot, kBuffers> slots_;
  bool is_receiving_ = false, has_multishot_ = true, is_quiesced_ = false, is_ended_ = false;
  /** Buffers that are ready, the first ones; of them those taken back so far. */
  unsigned ready_ = 0, withheld_ = 0;
  /** Requests of the data path since the last tick, and ticks in a row that saw few. */
  unsigned requests_ = 0, quiet_ticks_ = 0;
  /** Whether anything was asked for since `WatchForEnd` last looked. */
  bool were_requests_ = false;
  /** The ring's number of the watch for the end, while there is one. */
  std::optional<int> watch_;
};
