#pragma once

#include <array>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "assert.h"
#include "chain-files.h"
#include "engine.h"
#include "map-window.h"
#include "merge.h"

constexpr uint64_t kSize = 300 * kMiB, kBlocks = kSize / kBlockBytes;

/** A guest in the same thread: its answers are entries that do nothing. */
class Guest final : public Transport {
 public:
  static constexpr unsigned kRequests = 12;
  struct Slot final : Completion {
    Guest* guest;
    Request request;
    bool is_busy = false;
    int error = 0;
    /** Told what it was answered. */
    std::function<void(int)> answered;
    void Complete(unsigned, int, unsigned) override {
      is_busy = false;
      guest->ring_->Stop();
      answered(error);
      guest->Look();
    }
  };

  Guest() {
    for (unsigned i = 0; i < kRequests; i++) {
      slots_[i].guest = this;
      slots_[i].request.buffer = i;
    }
    Renew();
  }

  /** Other memory with the same content: what a dead ring still does goes to the old. */
  void Renew() {
    memories_.emplace_back(kRequests * kMaxTransfer);
    for (unsigned i = 0; i < kRequests; i++) {
      char* data = static_cast<char*>(memories_.back().data()) + i * kMaxTransfer;
      if (slots_[i].is_busy) std::memcpy(data, slots_[i].request.data, kMaxTransfer);
      slots_[i].request.data = data;
    }
    if (memories_.size() > 8) memories_.pop_front();
  }

  void Connect(Ring& ring, Engine& engine) {
    ring_ = &ring;
    for (Slot& slot : slots_) slot.request.engine = &engine;
    is_linkable_ = !is_linkable_;
    engine.Connect(*this);
    quiesced_ = nullptr;
    is_quiet_ = false;
    // The first half of each buffer, as an example.
    std::array<iovec, kRequests> registered;
    for (unsigned i = 0; i < kRequests; i++) {
      registered[i] = {slots_[i].request.data, kMaxTransfer / 2};
      slots_[i].request.registered = kMaxTransfer / 2;
    }
    if (io_uring_register_buffers(ring.get(), registered.data(), kRequests) < 0) {
      for (Slot& slot : slots_) slot.request.registered = 0;
    }
  }

  void Answer(Request& request, int error) override {
    Slot& slot = slots_[request.buffer];
    slot.error = error;
    ring_->Next(&slot, 0, IORING_OP_NOP, -1, nullptr, 0, 0, 0);
  }
  bool IsLinkable() const override { return is_linkable_; }
  void Quiesce(std::function<void()> done) override {
    is_quiet_ = true;
    quiesced_ = std::move(done);
    // Not from within.
    ring_->After(std::chrono::microseconds(1), [this] { Look(); });
  }
  /** The guest goes on at once, whatever the engine still has to do. */
  void Resume() override {
    is_quiet_ = false;
    ring_->Stop();
  }

  bool is_quiet() const { return is_quiet_; }
  std::array<Slot, kRequests>& slots() { return slots_; }
  bool is_busy() const {
    for (const Slot& slot : slots_) {
      if (slot.is_busy) return true;
    }
    return false;
  }

 private:
  void Look() {
    for (const Slot& slot : slots_) {
      if (slot.is_busy && !slot.request.is_parked()) return;
    }
    if (quiesced_) std::exchange(quiesced_, nullptr)();
  }

  std::deque<AlignedBuffer> memories_;
  std::array<Slot, kRequests> slots_;
  Ring* ring_ = nullptr;
  bool is_quiet_ = false;
  /** Changes from engine to engine. */
  bool is_linkable_ = false;
  std::function<void()> quiesced_;
};

/** A chain that is written to at random, with a model of what it must hold. */
class Disk {
 public:
  explicit Disk(unsigned seed, uint64_t image_size = kSize) : random_(seed), model_(kBlocks), busy_(kBlocks) {
    layers_ = {files_.MakeImage("disk.img", image_size)};
    names_ = {"disk.img"};
    directory_ = files_.Directory();
    if (image_size < kSize) AddDelta(1);
    Attach();
  }

  /** From the files alone. */
  void Attach() {
    engine_.reset();
    state_.reset();
    memfd_ = LiveState::Create(kSize, layers_);
    StartWorker();
  }

  /** As after a kill: what is under way is forgotten, and asked for again. */
  void StartWorker() {
    engine_.reset();
    ring_.reset();
    state_ = std::make_unique<LiveState>(memfd_.get());
    ring_ = std::make_unique<Ring>();
    engine_ = std::make_unique<Engine>(*ring_, *state_);
    guest_.Renew();
    guest_.Connect(*ring_, *engine_);
    for (Guest::Slot& slot : guest_.slots()) {
      if (slot.is_busy) engine_->Handle(slot.request);
    }
  }

  void Run(const std::function<bool()>& until) {
    while (!until()) ring_->Run();
  }
  void Settle() {
    Run([this] { return !guest_.is_busy(); });
  }

  /** Does something to blocks that nothing else is being done to. */
  void Start() {
    Guest::Slot* slot = nullptr;
    for (Guest::Slot& free : guest_.slots()) {
      if (!free.is_busy) slot = &free;
    }
    if (!slot || guest_.is_quiet()) return ring_->Run();
    unsigned kind = random_() % 100;
    Operation operation = kind < 45   ? Operation::kWrite
                          : kind < 90 ? Operation::kRead
                          : kind < 96 ? Operation::kZero
                                      : Operation::kFlush;
    uint64_t most = random_() % 4 ? 8 : operation == Operation::kZero ? 2000 : 256;
    uint64_t count = 1 + random_() % most;
    // Small regions, so that layers meet; one of them around the boundary of two map pages.
    constexpr uint64_t kRegions[] = {0, kPageBlocks - 500, kBlocks - 3000};
    uint64_t first = kRegions[random_() % 3] + random_() % (random_() % 3 ? 900 : 3000 - 2000 * (count > 1000));
    first = std::min(first, kBlocks - count);
    if (operation == Operation::kFlush) {
      count = 0;
    }
    for (uint64_t block = first; block < first + count; block++) {
      if (busy_[block]) return ring_->Run();
    }
    Issue(*slot, operation, first, count);
  }

  void Issue(Guest::Slot& slot, Operation operation, uint64_t first, uint64_t count) {
    slot.request.operation = operation;
    slot.request.offset = first * kBlockBytes;
    slot.request.length = count * kBlockBytes;
    slot.is_busy = true;
    char* data = slot.request.data;
    uint32_t write = operation == Operation::kWrite ? ++writes_ : 0;
    for (uint64_t i = 0; i < count; i++) {
      busy_[first + i] = true;
      if (operation == Operation::kWrite) FillBlock(data + i * kBlockBytes, first + i, write);
      if (operation == Operation::kRead) std::memset(data + i * kBlockBytes, 0xa5, kBlockBytes);
    }
    slot.answered = [this, &slot, operation, first, count, write](int error) {
      EXPECT(error == 0);
      const char* data = slot.request.data;
      for (uint64_t i = 0; i < count; i++) {
        busy_[first + i] = false;
        if (operation == Operation::kRead) {
          EXPECT(IsBlock(data + i * kBlockBytes, first + i, model_[first + i]));
        } else {
          model_[first + i] = write;
        }
      }
    };
    engine_->Handle(slot.request);
  }

  void CheckAll() {
    Settle();
    Guest::Slot& slot = guest_.slots()[0];
    for (uint64_t first = 0; first < kBlocks; first += 256) {
      Issue(slot, Operation::kRead, first, std::min<uint64_t>(256, kBlocks - first));
      Settle();
    }
  }

  /** While nothing is written. */
  void Flush() {
    Settle();
    std::optional<int> result;
    engine_->FlushRound([&](int error) { Ended(result, error); });
    Run([&] { return result.has_value(); });
    EXPECT(*result == 0);
  }

  /** A new top, as a snapshot makes it. */
  void Switch() {
    std::string number = std::to_string(layers_.size());
    Layer next = files_.MakeDelta("disk.next", kSize);
    char bit[4096] = {1};
    AlignedBuffer page(4096);
    std::memcpy(page.data(), bit, sizeof bit);
    WriteAll(SystemBackend(), next.fd, page.data(), 4096, next.map_offset);
    std::optional<int> result;
    SwitchOrder order{.top = next,
                      .directory = directory_,
                      .old_name = names_.back(),
                      .kept_name = "disk@" + std::to_string(++switches_),
                      .next_name = "disk.next",
                      .top_name = "disk.delta",
                      // All of its map is read, or no more than what has a bit.
                      .owned_end = switches_ % 2 ? 1 : UINT64_MAX};
    names_.back() = order.kept_name;
    names_.push_back(order.top_name);
    layers_.push_back(next);
    engine_->Switch(order, [&](int error, uint8_t top) {
      EXPECT(error || state_->chain().top() == top);
      Ended(result, error);
    });
    Wait(result);
    EXPECT(*result == 0);
  }

  /** Without a server: a top that owns one block. */
  void AddDelta(uint64_t block) {
    names_.push_back("delta-" + std::to_string(layers_.size()));
    Layer layer = files_.MakeDelta(names_.back(), kSize);
    layers_.push_back(layer);
    AlignedBuffer data(kBlockBytes);
    FillBlock(static_cast<char*>(data.data()), block, ++writes_);
    WriteAll(SystemBackend(), layer.fd, data.data(), data.size(), layer.data_offset + block * kBlockBytes);
    SetBits(SystemBackend(), layer, {{block, block + 1}});
    model_[block] = writes_;
  }

  /** The layer below the top into the top, while the guest writes. */
  void AbsorbIntoTop() {
    if (layers_.size() < 3) return;
    const LiveState::Chain& chain = state_->chain();
    ::Slot slot = chain.order[chain.length - 2];
    for (std::optional<uint64_t> next = 0; next;) {
      std::optional<int> result;
      engine_->AbsorbBatch(slot, *next, [&](int error, std::optional<uint64_t> then) {
        next = then;
        Ended(result, error);
      });
      Wait(result);
      EXPECT(*result == 0);
      Moved(slot, state_->chain().top(), layers_.size() - 2, next);
    }
    Drop(slot, layers_.size() - 2);
  }

  /** The lowest delta into the next one, which is sealed. */
  void AbsorbBelow() {
    if (layers_.size() < 4) return;
    const LiveState::Chain& chain = state_->chain();
    ::Slot slot = chain.order[1], child = chain.order[2];
    for (BatchLimits limits{.max_bytes = 4 * kMiB};;) {
      std::optional<uint64_t> next = CopyMissing(SystemBackend(), layers_[1], layers_[2], limits).next_block;
      Moved(slot, child, 1, next);
      if (!next) break;
      limits.from_block = *next;
    }
    Drop(slot, 1);
  }

  /** The lowest delta into the image, batch by batch. */
  void Fold() {
    if (layers_.size() < 3) return;
    ::Slot slot = state_->chain().order[1];
    // Of the larger size before anything is written to it, as whoever folds does.
    layers_[0].size = kSize;
    Check(ftruncate(layers_[0].fd, kSize), "ftruncate");
    for (BatchLimits limits{.max_bytes = 4 * kMiB};;) {
      std::optional<uint64_t> next =
          FoldBatch(SystemBackend(), layers_[0], layers_[1], std::nullopt, limits).next_block;
      Moved(slot, kBottomSlot, 1, next);
      if (!next) break;
      limits.from_block = *next;
    }
    Drop(slot, 1);
  }

  /** What another layer has may be punched. */
  void Moved(::Slot slot, ::Slot into, size_t index, std::optional<uint64_t> next) {
    const uint64_t end = next.value_or(kBlocks);
    std::optional<int> result;
    engine_->MovedTo(slot, into, end, [&](int error) { Ended(result, error); });
    Wait(result);
    EXPECT(*result == 0);
    EXPECT(SystemBackend().Punch(layers_[index].fd, layers_[index].data_offset, end * kBlockBytes) == 0);
  }

  void Drop(::Slot slot, size_t index) {
    std::optional<int> result;
    engine_->Drop(slot, [&](int error, int fd) {
      EXPECT(error || fd == layers_[index].fd);
      Ended(result, error);
    });
    Wait(result);
    EXPECT(*result == 0);
    Check(unlinkat(directory_, names_[index].c_str(), 0), "unlink", names_[index]);
    layers_.erase(layers_.begin() + static_cast<ptrdiff_t>(index));
    names_.erase(names_.begin() + static_cast<ptrdiff_t>(index));
  }

  int Refused(const std::function<void(Engine::Done)>& call) {
    std::optional<int> result;
    call([&](int error) { Ended(result, error); });
    Wait(result);
    return *result;
  }

  std::mt19937& random() { return random_; }
  Engine& engine() { return *engine_; }
  LiveState& state() { return *state_; }
  Guest& guest() { return guest_; }
  ChainFiles& files() { return files_; }
  std::vector<Layer>& layers() { return layers_; }

 private:
  void Ended(std::optional<int>& result, int error) {
    result = error;
    ring_->Stop();
  }
  /** The guest goes on meanwhile. */
  void Wait(const std::optional<int>& result) {
    while (!result) Start();
  }

  std::mt19937 random_;
  ChainFiles files_;
  int directory_;
  std::vector<Layer> layers_;
  std::vector<std::string> names_;
  Fd memfd_;
  std::unique_ptr<LiveState> state_;
  std::unique_ptr<Ring> ring_;
  Guest guest_;
  std::unique_ptr<Engine> engine_;
  /** Of each block the write that it holds, and whether something is under way. */
  std::vector<uint32_t> model_;
  std::vector<bool> busy_;
  uint32_t writes_ = 0;
  int switches_ = 0;
};
