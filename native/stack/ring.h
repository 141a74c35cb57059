#pragma once

#include <liburing.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <vector>

/** What is told how an entry of the ring ended. Aligned, because an entry's user data carries `kind` in the low bits.
 */
class alignas(8) Completion {
 public:
  /** `kind` is what `Ring::Next` was given: below 8. `result` and `flags` are the completion's. */
  virtual void Complete(unsigned kind, int result, unsigned flags) = 0;

 protected:
  ~Completion() = default;
};

/**
 * The one io_uring of a worker, used by one thread. Callbacks run from `Run` only and may call anything here but `Run`.
 */
class Ring {
 public:
  /** Flags of an entry whose success is silent and starts the next one; a failure cancels the rest of the chain,
   * silently. */
  static constexpr unsigned kChained = IOSQE_FIXED_FILE | IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;

  enum class Entries { kPlain, kWithCommands };

  /** Only entries with room for them carry commands to drivers; they are twice as long. Throws a SystemFailure. */
  explicit Ring(Entries entries = Entries::kPlain);
  ~Ring();
  Ring(const Ring&) = delete;

  /** To be called before the first entry of a chain of this many: a submission in the middle would end it. */
  void Room(unsigned entries);

  /** An entry of one of the read/write kind, to which others are similar enough. `file` is an index where flags say
   * FIXED_FILE. */
  io_uring_sqe* Next(Completion* completion, unsigned kind, uint8_t opcode, int file, const void* address,
                     uint32_t length, uint64_t offset, unsigned flags);

  /** Sends off what there is, before the caller does something that takes time. */
  void Submit();

  /** Registers a descriptor, under the index that is returned. Throws a SystemFailure. */
  int RegisterFile(int fd);
  void UnregisterFile(int index);

  /** Calls back with the events of poll(2) whenever there are some, until `Unwatch` of the number returned. */
  int Watch(int fd, uint32_t events, std::function<void(uint32_t)> ready);
  void Unwatch(int watch);

  /** Calls back once. */
  void After(std::chrono::microseconds time, std::function<void()> body);

  /** How long to look out for the next completion without sleeping, while they follow each other closely and nobody
   * else needs the CPU. */
  void SetSpin(unsigned microseconds) { spin_microseconds_ = microseconds; }

  /** Handles completions until `Stop`. */
  void Run();
  void Stop() { stopped_ = true; }

  io_uring* get() { return &ring_; }

 private:
  class PollWatch;
  class Timer;

  /** Looks out for a completion; returns whether there is one. */
  bool Spin();
  void Wait();

  io_uring ring_{};
  unsigned spin_microseconds_ = 0;
  uint64_t no_spin_before_ = 0;
  bool is_spinning_ = false, stopped_ = false;
  std::vector<int> free_files_;
  std::list<Timer> timers_;
  std::map<int, std::unique_ptr<PollWatch>> watches_;
  int next_watch_ = 1;
};
