// A guest on an engine whose power will be cut:
//   powercut-guest DIRECTORY SEED STEPS SIZE[:GROWN] LAYER… [-- OLD KEPT NEXT TOP MAP DATA]
// A layer is NAME:MAP:DATA, of an image NAME; bottom first. In the middle the disk grows, and it switches to another
// top, if there are arguments for it. What it does it tells in marks.

#include <array>
#include <cstring>
#include <random>
#include <sstream>

#include "aligned-buffer.h"
#include "assert.h"
#include "chain-files.h"
#include "engine.h"

// Only where the recorder is preloaded.
extern "C" __attribute__((weak)) void RecordMark(const char* text);

namespace {

template <typename... Words>
void Mark(Words... words) {
  std::ostringstream line;
  ((line << words << ' '), ...);
  if (RecordMark) RecordMark(line.str().c_str());
}

/** Its answers are entries that do nothing. */
class Guest final : public Transport {
 public:
  static constexpr unsigned kRequests = 8;

  struct Slot final : Completion {
    Ring* ring;
    Request request;
    bool is_busy = false;
    std::function<void()> answered;
    void Complete(unsigned, int result, unsigned) override {
      EXPECT(result == 0);
      is_busy = false;
      answered();
      ring->Stop();
    }
  };

  Guest(Ring& ring, Engine& engine) : ring_(ring), memory_(kRequests * kMaxTransfer) {
    for (unsigned i = 0; i < kRequests; i++) {
      slots_[i].ring = &ring;
      slots_[i].request.engine = &engine;
      slots_[i].request.buffer = i;
      slots_[i].request.data = static_cast<char*>(memory_.data()) + i * kMaxTransfer;
    }
    engine.Connect(*this);
  }

  void Answer(Request& request, int error) override {
    EXPECT(error == 0);
    ring_.Next(&slots_[request.buffer], 0, IORING_OP_NOP, -1, nullptr, 0, 0, 0);
  }
  bool IsLinkable() const override { return true; }
  void Quiesce(std::function<void()> done) override {
    is_quiet_ = true;
    quiesced_ = std::move(done);
    Look();
  }
  /** The guest goes on at once, whatever the engine still has to do. */
  void Resume() override {
    is_quiet_ = false;
    ring_.Stop();
  }

  Slot* FindFree() {
    for (Slot& slot : slots_) {
      if (!slot.is_busy) return &slot;
    }
    return nullptr;
  }
  bool is_quiet() const { return is_quiet_; }

 private:
  void Look() {
    ring_.After(std::chrono::microseconds(10), [this] {
      for (Slot& slot : slots_) {
        if (slot.is_busy && !slot.request.is_parked()) return Look();
      }
      Mark("quiet");
      quiesced_();
    });
  }

  Ring& ring_;
  AlignedBuffer memory_;
  std::array<Slot, kRequests> slots_;
  bool is_quiet_ = false;
  std::function<void()> quiesced_;
};

class Disk {
 public:
  Disk(unsigned seed, uint64_t size, const std::vector<Layer>& layers)
      : random_(seed),
        memfd_(LiveState::Create(size, layers)),
        state_(memfd_.get()),
        engine_(ring_, state_),
        guest_(ring_, engine_),
        busy_(size / kBlockBytes) {}

  void Step() {
    Guest::Slot* slot = guest_.FindFree();
    if (!slot || guest_.is_quiet()) return ring_.Run();
    unsigned kind = random_() % 100;
    Operation operation = kind < 75 ? Operation::kWrite : kind < 87 ? Operation::kZero : Operation::kFlush;
    uint64_t count = operation == Operation::kFlush ? 0 : 1 + random_() % (random_() % 8 ? 4 : 40);
    // Block 0 is the superblock's.
    uint64_t first = 1 + random_() % (random_() % 3 ? 300 : busy_.size() - 41);
    for (uint64_t block = first; block < first + count; block++) {
      if (busy_[block]) return ring_.Run();
    }
    Issue(*slot, operation, first, count);
    if (random_() % 3 == 0) ring_.Run();
  }

  /** Returns false where all of it is durable. */
  void Flush() {
    for (bool is_done = false; !is_done;) {
      Guest::Slot* slot = guest_.FindFree();
      if (slot) Issue(*slot, Operation::kFlush, 0, 0, [&] { is_done = true; });
      while (slot ? !is_done : !guest_.FindFree()) ring_.Run();
    }
  }

  void Switch(const SwitchOrder& order) {
    bool is_done = false;
    engine_.Switch(order, [&](int error, uint8_t) {
      EXPECT(error == 0);
      Mark("switched");
      is_done = true;
      ring_.Stop();
    });
    while (!is_done) Step();
  }

  void Grow(uint64_t size) {
    bool is_done = false;
    engine_.Grow(size, [&](int error) {
      EXPECT(error == 0);
      busy_.resize(size / kBlockBytes);
      is_done = true;
      ring_.Stop();
    });
    while (!is_done) Step();
  }

 private:
  void Issue(
      Guest::Slot& slot, Operation operation, uint64_t first, uint64_t count, std::function<void()> done = [] {}) {
    slot.request.operation = operation;
    slot.request.offset = first * kBlockBytes;
    slot.request.length = count * kBlockBytes;
    slot.is_busy = true;
    uint32_t number = ++requests_, content = operation == Operation::kWrite ? number : 0;
    for (uint64_t i = 0; i < count; i++) {
      busy_[first + i] = true;
      if (content) FillBlock(slot.request.data + i * kBlockBytes, first + i, content);
    }
    if (count) Mark("write", number, first, count, content);
    if (!count) Mark("flush", number);
    slot.answered = [this, number, first, count, done] {
      Mark("answered", number);
      for (uint64_t i = 0; i < count; i++) busy_[first + i] = false;
      done();
    };
    engine_.Handle(slot.request);
  }

  std::mt19937 random_;
  Fd memfd_;
  LiveState state_;
  Ring ring_;
  Engine engine_;
  Guest guest_;
  std::vector<bool> busy_;
  uint32_t requests_ = 0;
};

Layer OpenLayer(const std::string& directory, const std::string& name, uint64_t size, uint64_t map, uint64_t data) {
  std::string path = directory + "/" + name;
  int fd = open(path.c_str(), O_RDWR | O_CLOEXEC | O_DIRECT);
  return {.fd = Check(fd, "open", path), .is_image = map == 0, .size = size, .map_offset = map, .data_offset = data};
}

}  // namespace

int main(int argc, char** argv) {
  EXPECT(argc > 5);
  std::string directory = argv[1];
  int steps = std::atoi(argv[3]);
  char* behind = nullptr;
  uint64_t size = std::strtoull(argv[4], &behind, 10);
  uint64_t grown = *behind ? std::strtoull(behind + 1, nullptr, 10) : 0;
  std::vector<Layer> layers;
  int argument = 5;
  for (; argument < argc && std::strcmp(argv[argument], "--") != 0; argument++) {
    std::istringstream words(argv[argument]);
    std::string name, map = "0", data = "0";
    std::getline(words, name, ':') && std::getline(words, map, ':') && std::getline(words, data, ':');
    layers.push_back(OpenLayer(directory, name, size, std::stoull(map), std::stoull(data)));
  }
  Disk disk(static_cast<unsigned>(std::atoi(argv[2])), size, layers);
  for (int step = 0; step < steps; step++) disk.Step();
  if (grown) {
    disk.Grow(grown);
    for (int step = 0; step < steps; step++) disk.Step();
  }
  if (argument < argc) {
    EXPECT(argc == argument + 7);
    char** names = argv + argument + 1;
    disk.Switch({.top = OpenLayer(directory, names[2], size, std::stoull(names[4]), std::stoull(names[5])),
                 .directory = Check(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open", directory),
                 .old_name = names[0],
                 .kept_name = names[1],
                 .next_name = names[2],
                 .top_name = names[3]});
    for (int step = 0; step < steps; step++) disk.Step();
  }
  disk.Flush();
}
