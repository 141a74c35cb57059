#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine.h"
#include "fuse-answers.h"
#include "fuse-protocol.h"
#include "request-buffers.h"
#include "server-transport.h"

/**
 * Requests of the one file of a FUSE connection, through the ring: the kernel has a queue of entries for each CPU, and
 * puts a request into one. The same command answers it and offers the entry again. What was put into a dead worker's
 * entries is lost, so there is no next worker.
 */
class FuseUringTransport final : public ServerTransport, private Completion {
 public:
  /** The ring's entries have room for commands. `fuse` is someone else's. Throws a SystemFailure. */
  FuseUringTransport(Ring& ring, Engine& engine, int fuse, std::string file_name);

  /** EOPNOTSUPP where the kernel does not offer it. */
  void Start(std::function<void()> ended) override;
  bool AskAgain() override;
  bool IsLinkable() const override { return false; }

  void Answer(Request& request, int error) override;
  void Quiesce(std::function<void()> done) override;
  void Resume() override;

 private:
  struct Entry final : Completion {
    FuseUringTransport* transport = nullptr;
    Request request;
    uint16_t queue = 0;
    FuseUringHeader* header = nullptr;
    /** Header and payload, as the kernel is told of them. */
    iovec parts[2];
    uint64_t unique = 0;
    bool is_under_way = false;
    /** Requests since its memory was given back. */
    unsigned uses = 0;

    void Complete(unsigned kind, int result, unsigned flags) override;
  };

  FuseFile File() const;
  /** The first request of a connection, which comes by read(2). */
  void AnswerInit();
  void Command(Entry& entry, uint32_t command, uint64_t commit_id);
  void Commit(Entry& entry, int error, uint32_t payload_length);
  void Take(Entry& entry);
  void AnswerOther(Entry& entry, const fuse_in_header& header);

  // What still comes by read(2): nothing that is waited for.
  void Receive();
  void Complete(unsigned kind, int result, unsigned flags) override;
  const char* received() const;

  void LookWhetherQuiet();
  void Tick();
  /** Gives back the memory of what the kernel has put nothing into. No request is under way. */
  void Trim();
  void End();

  Ring& ring_;
  Engine& engine_;
  int fuse_, file_;
  std::string file_name_;
  std::function<void()> ended_, quiesced_;
  unsigned queues_, count_;
  std::unique_ptr<Entry[]> entries_;
  /** Those of the entries, and one for what comes by read(2). */
  RequestBuffers buffers_;
  bool is_quiesced_ = false, is_ended_ = false, has_memory_ = false;
  /** What came while no request was to be under way. */
  std::vector<Entry*> waiting_;
  /** Whether data was asked for since the last tick. */
  bool is_busy_ = false;
};
