#include "fuse-uring-transport.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <utility>

#include "fuse-request.h"
#include "log.h"
#include "system.h"

namespace {

/** Entries of all queues together, and at least and at most of one. */
constexpr unsigned kEntries = 64, kLeastOfQueue = 4;

/** The shortest that read(2) takes. */
constexpr size_t kReceived = sizeof(fuse_in_header) + sizeof(fuse_write_in) + kMaxTransfer;

/** With so many requests it pays to pin an entry's whole buffer. */
constexpr unsigned kUses = 32;

constexpr std::chrono::seconds kTick{1};
/** Between two looks whether the last requests have ended. */
constexpr std::chrono::microseconds kQuietPause{50};

/** How many CPUs there may ever be: `0-3,8`. */
unsigned PossibleCpus() {
  std::ifstream file("/sys/devices/system/cpu/possible");
  unsigned count = 0;
  for (std::string range; std::getline(file, range, ',');) {
    unsigned first, last;
    int numbers = sscanf(range.c_str(), "%u-%u", &first, &last);
    count += numbers == 2 ? last - first + 1 : 1;
  }
  if (count == 0) throw SystemFailure{EIO, "count", "CPUs"};
  return count;
}

}  // namespace

FuseUringTransport::FuseUringTransport(Ring& ring, Engine& engine, int fuse, std::string file_name)
    : ring_(ring),
      engine_(engine),
      fuse_(fuse),
      file_(ring.RegisterFile(fuse)),
      file_name_(std::move(file_name)),
      queues_(PossibleCpus()),
      count_(queues_ * std::max(kLeastOfQueue, kEntries / queues_)),
      entries_(std::make_unique<Entry[]>(count_)),
      buffers_(ring, count_ + 1, queues_) {
  for (unsigned index = 0; index < count_; index++) {
    Entry& entry = entries_[index];
    entry.transport = this;
    entry.queue = static_cast<uint16_t>(index % queues_);
    entry.request.engine = &engine;
    entry.request.data = buffers_.data(index);
    entry.request.buffer = index;
    entry.header = reinterpret_cast<FuseUringHeader*>(buffers_.page(index));
    entry.parts[0] = {entry.header, sizeof *entry.header};
    entry.parts[1] = {entry.request.data, kMaxTransfer};
  }
}

FuseFile FuseUringTransport::File() const {
  return {.name = file_name_,
          .size_bytes = engine_.state().capacity_blocks() * kBlockBytes,
          .max_background = static_cast<uint16_t>(count_),
          .max_transfer = kMaxTransfer,
          .is_over_uring = true};
}

bool FuseUringTransport::AskAgain() {
  errno = EOPNOTSUPP;
  return false;
}

void FuseUringTransport::Start(std::function<void()> ended) {
  ended_ = std::move(ended);
  AnswerInit();
  // The kernel takes the entry first that was offered last: the one that does not lie in a huge page.
  for (unsigned index = count_; index-- > 0;) Command(entries_[index], kFuseUringRegister, 0);
  Receive();
  ring_.After(kTick, [this] { Tick(); });
}

const char* FuseUringTransport::received() const {
  return buffers_.page(count_);
}

void FuseUringTransport::AnswerInit() {
  fuse_in_header header{};
  ssize_t length;
  do {
    length = read(fuse_, buffers_.page(count_), kReceived);
  } while (length < 0 && errno == EINTR);
  Check(static_cast<int>(length), "read", "/dev/fuse");
  std::memcpy(&header, received(), sizeof header);
  const char* argument = received() + sizeof header;
  if (header.opcode != FUSE_INIT) throw SystemFailure{EPROTO, "read", "/dev/fuse"};
  if (!OffersUring(argument)) throw SystemFailure{EOPNOTSUPP, "FUSE over io_uring"};
  WriteFuseAnswer(fuse_, header.unique, AnswerFuse(File(), header, argument));
}

void FuseUringTransport::Command(Entry& entry, uint32_t command, uint64_t commit_id) {
  io_uring_sqe* sqe =
      ring_.Next(&entry, 0, IORING_OP_URING_CMD, file_, entry.parts, std::size(entry.parts), 0, IOSQE_FIXED_FILE);
  sqe->cmd_op = command;
  const FuseUringCommand body{0, commit_id, entry.queue, {}};
  std::memcpy(reinterpret_cast<char*>(sqe) + offsetof(io_uring_sqe, cmd), &body, sizeof body);
}

void FuseUringTransport::Entry::Complete(unsigned, int result, unsigned) {
  if (result == 0) return transport->Take(*this);
  if (result == -ENOTCONN || result == -ECONNABORTED || result == -ENODEV) return transport->End();
  throw SystemFailure{-result, "FUSE over io_uring"};
}

void FuseUringTransport::Take(Entry& entry) {
  if (is_ended_) return;
  if (is_quiesced_) return waiting_.push_back(&entry);
  fuse_in_header header;
  std::memcpy(&header, entry.header->in_out, sizeof header);
  entry.unique = header.unique;
  const std::optional<int> error = ReadFuseRequest(header.opcode, entry.header->argument, entry.request);
  if (!error) return AnswerOther(entry, header);
  if (*error) return Commit(entry, *error, 0);
  is_busy_ = has_memory_ = true;
  entry.is_under_way = true;
  if (++entry.uses == kUses) entry.request.registered = buffers_.Register(entry.request.buffer);
  engine_.Handle(entry.request);
}

void FuseUringTransport::AnswerOther(Entry& entry, const fuse_in_header& header) {
  const bool has_name = header.opcode == FUSE_LOOKUP;
  FuseAnswer answer = AnswerFuse(File(), header, has_name ? entry.request.data : entry.header->argument);
  std::memcpy(entry.request.data, answer.body, answer.length);
  Commit(entry, answer.error, answer.length);
}

void FuseUringTransport::Answer(Request& request, int error) {
  Entry& entry = entries_[request.buffer];
  entry.is_under_way = false;
  if (error || request.operation == Operation::kFlush || request.operation == Operation::kZero) {
    return Commit(entry, error, 0);
  }
  if (request.operation == Operation::kRead) return Commit(entry, 0, static_cast<uint32_t>(request.length));
  const fuse_write_out out{static_cast<uint32_t>(request.length), 0};
  std::memcpy(request.data, &out, sizeof out);
  Commit(entry, 0, sizeof out);
}

void FuseUringTransport::Commit(Entry& entry, int error, uint32_t payload_length) {
  const fuse_out_header out{static_cast<uint32_t>(sizeof out + payload_length), error, entry.unique};
  std::memcpy(entry.header->in_out, &out, sizeof out);
  entry.header->payload_length = payload_length;
  // The kernel's own until it puts the next request there: `Trim`.
  Command(entry, kFuseUringCommitAndFetch, std::exchange(entry.header->commit_id, 0));
}

void FuseUringTransport::Receive() {
  ring_.Next(this, 0, IORING_OP_READ, file_, received(), kReceived, -1, IOSQE_FIXED_FILE);
}

void FuseUringTransport::Complete(unsigned, int result, unsigned) {
  if (result == -ENODEV) return End();
  if (is_ended_) return;
  if (result > 0) {
    fuse_in_header header;
    std::memcpy(&header, received(), sizeof header);
    if (!IsUnanswered(header.opcode)) {
      WriteFuseAnswer(fuse_, header.unique, AnswerFuse(File(), header, received() + sizeof header));
    }
  }
  Receive();
}

void FuseUringTransport::Quiesce(std::function<void()> done) {
  quiesced_ = std::move(done);
  is_quiesced_ = true;
  ring_.After(std::chrono::microseconds{0}, [this] { LookWhetherQuiet(); });
}

void FuseUringTransport::LookWhetherQuiet() {
  const bool is_quiet = std::none_of(entries_.get(), entries_.get() + count_, [](const Entry& entry) {
    return entry.is_under_way && !entry.request.is_parked();
  });
  if (!is_quiet) return ring_.After(kQuietPause, [this] { LookWhetherQuiet(); });
  // The last answers take effect before what comes now takes time.
  ring_.Submit();
  std::exchange(quiesced_, nullptr)();
}

void FuseUringTransport::Resume() {
  is_quiesced_ = false;
  for (Entry* entry : std::exchange(waiting_, {})) Take(*entry);
}

void FuseUringTransport::Tick() {
  if (is_ended_) return;
  if (IsFuseDisconnected(fuse_)) return End();
  const bool is_idle = !std::exchange(is_busy_, false) && engine_.state().held() == 0;
  if (is_idle && has_memory_) engine_.Rest([this] { Trim(); });
  ring_.After(kTick, [this] { Tick(); });
}

void FuseUringTransport::Trim() {
  has_memory_ = false;
  for (unsigned index = 0; index < count_; index++) {
    Entry& entry = entries_[index];
    // Also what only lies in the same huge page as another one.
    if (entry.is_under_way || entry.header->commit_id != 0) continue;
    entry.request.registered = entry.uses = 0;
    buffers_.Drop(index, 1);
  }
}

void FuseUringTransport::End() {
  if (std::exchange(is_ended_, true)) return;
  ended_();
}
