#include "control.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "log.h"

namespace {

constexpr size_t kMaxConnections = 32;
constexpr int kAcceptedAtOnce = 4;

ControlReply Refusal(int error, const std::string& text) {
  const char* name = strerrorname_np(error);
  return {std::string("error ") + (name ? name : "EIO") + " " + text + "\n"};
}

/** `ok`, or the words of the errno. */
ControlReply Outcome(int error) {
  return error == 0 ? ControlReply{"ok\n"} : Refusal(-error, strerror(-error));
}

void Add(std::string& text, const char* key, uint64_t value) {
  text += std::string(key) + "=" + std::to_string(value) + "\n";
}

bool IsRoot(int socket) {
  ucred peer = {};
  socklen_t length = sizeof peer;
  return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.uid == 0;
}

/** Where a delta's manifest ends. */
constexpr uint64_t kManifestBytes = 64 * 1024;

/** What a prepared top must be: a file with room for the disk behind its manifest, open for direct reads and writes. */
bool IsPreparedTop(int fd, const Layer& top) {
  struct stat status;
  const int flags = fcntl(fd, F_GETFL);
  return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && (flags & O_ACCMODE) == O_RDWR && (flags & O_DIRECT) &&
         top.map_offset >= kManifestBytes && top.map_offset % kBlockBytes == 0 && top.data_offset % kBlockBytes == 0 &&
         top.map_offset + (top.size / kBlockBytes + 7) / 8 <= top.data_offset &&
         static_cast<uint64_t>(status.st_size) >= top.data_offset &&
         static_cast<uint64_t>(status.st_size) - top.data_offset >= top.size;
}

/** Open such that it can be synced: where that fails after a rename the disk has failed. */
bool IsDirectory(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISDIR(status.st_mode) && !(fcntl(fd, F_GETFL) & O_PATH);
}

}  // namespace

struct Control::Connection {
  Fd socket;
  /** The ring's number while a request is waited for; none while one is under way. */
  std::optional<int> watch;
};

Control::Control(Ring& ring, Engine& engine, const KeeperLink& keeper, int listener)
    : ring_(ring), engine_(engine), keeper_(keeper), listener_(listener) {
  ring_.Watch(listener_, POLLIN, [this](uint32_t) { Accept(); });
  // Who connected to the worker before this one waits already.
  Accept();
}

Control::~Control() = default;

void Control::Accept() {
  for (int accepted = 0; accepted < kAcceptedAtOnce; ++accepted) {
    Fd socket(accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket) return;
    if (!IsRoot(socket.get()) || !MakeRoom()) continue;
    const int number = next_number_++;
    connections_[number] = std::make_unique<Connection>(Connection{.socket = std::move(socket), .watch = {}});
    Pump(number);
  }
  // There may be more. First the ring's other work, or who connects again and again would keep the disk waiting.
  if (std::exchange(will_accept_, true)) return;
  ring_.After(std::chrono::microseconds(0), [this] {
    will_accept_ = false;
    Accept();
  });
}

bool Control::MakeRoom() {
  if (connections_.size() < kMaxConnections) return true;
  const auto idle =
      std::find_if(connections_.begin(), connections_.end(), [](auto& entry) { return entry.second->watch; });
  if (idle == connections_.end()) return false;
  Disconnect(idle->first);
  return true;
}

void Control::Listen(int number) {
  Connection& connection = *connections_.at(number);
  if (!connection.watch) {
    connection.watch = ring_.Watch(connection.socket.get(), POLLIN, [this, number](uint32_t) { Pump(number); });
  }
}

void Control::Pump(int number) {
  Connection& connection = *connections_.at(number);
  std::optional<Packet> packet;
  try {
    packet = ReceivePacket(connection.socket.get(), kControlLimits);
  } catch (const SystemFailure& failure) {
    return Disconnect(number);
  }
  if (!packet) return Listen(number);
  if (connection.watch) ring_.Unwatch(*connection.watch);
  connection.watch.reset();
  const Respond respond = [this, number](const ControlReply& reply) { Reply(number, reply); };
  if (packet->is_cut) return respond(Refusal(EMSGSIZE, "the packet is too long"));
  const auto parsed = ParseControlRequest(packet->text, packet->descriptors.size());
  if (const auto* refusal = std::get_if<ControlRefusal>(&parsed))
    return respond(Refusal(refusal->error, refusal->text));
  Handle(std::get<ControlRequest>(parsed), std::move(packet->descriptors), respond);
}

void Control::Reply(int number, const ControlReply& reply) {
  if (!SendPacket(connections_.at(number)->socket.get(), reply.text, reply.descriptors)) return Disconnect(number);
  // The next turn of the ring looks for the next request.
  Listen(number);
}

void Control::Disconnect(int number) {
  if (const auto& watch = connections_.at(number)->watch) ring_.Unwatch(*watch);
  connections_.erase(number);
}

void Control::Handle(const ControlRequest& request, std::vector<Fd> descriptors, Respond respond) {
  const Engine::Done done = [respond](int error) { respond(Outcome(error)); };
  switch (request.verb) {
    case ControlVerb::kStatus:
      return respond(Status());
    case ControlVerb::kLayers:
      return respond(Layers());
    case ControlVerb::kSwitch:
      return Switch(request, std::move(descriptors), std::move(respond));
    case ControlVerb::kFlush:
      return engine_.FlushRound(done);
    case ControlVerb::kAbsorb:
      return Absorb(request, std::move(respond));
    case ControlVerb::kMoved:
      if (!IsSlot(request.slot) || !IsSlot(request.into)) return respond(Outcome(-ENOENT));
      return engine_.MovedTo(static_cast<Slot>(request.slot), static_cast<Slot>(request.into), request.block, done);
    case ControlVerb::kDrop:
      if (!IsSlot(request.slot)) return respond(Outcome(-ENOENT));
      return Drop(static_cast<Slot>(request.slot), std::move(respond));
    case ControlVerb::kGrow:
      return engine_.Grow(request.size_bytes, done);
    case ControlVerb::kRelease:
      engine_.ReleaseHeld();
      return respond(Outcome(0));
    case ControlVerb::kUnguard:
      return respond(Unguard());
  }
}

bool Control::IsSlot(uint64_t slot) const {
  return slot < kSlots && engine_.state().IsInUse(static_cast<Slot>(slot));
}

ControlReply Control::Status() const {
  const LiveState& state = engine_.state();
  const LiveState::Chain& chain = state.chain();
  const EngineCounters& counters = state.counters();
  std::string text = "ok\n";
  Add(text, "protocol", kControlVersion);
  Add(text, "worker", getpid());
  Add(text, "keeper", getppid());
  Add(text, "size", chain.size);
  Add(text, "failed", state.failed());
  Add(text, "held", state.held());
  Add(text, "released", state.drop_held());
  Add(text, "top", chain.top());
  for (uint32_t i = 0; i < chain.length; ++i) {
    const int fd = state.layer(chain.order[i]).fd;
    struct stat status = {};
    fstat(fd, &status);
    text += "layer=" + std::to_string(chain.order[i]) + " " + std::to_string(status.st_dev) + " " +
            std::to_string(status.st_ino) + (fcntl(fd, F_GETFL) & O_DIRECT ? " direct\n" : " cached\n");
  }
  const std::pair<const char*, uint64_t> counts[] = {
      {"count-reads", counters.reads},
      {"count-split-reads", counters.split_reads},
      {"count-merged-reads", counters.merged_reads},
      {"count-writes", counters.writes},
      {"count-first-writes", counters.first_writes},
      {"count-zeroes", counters.zeroes},
      {"count-plain-flushes", counters.plain_flushes},
      {"count-rounds", counters.rounds},
      {"count-grouped-flushes", counters.grouped_flushes},
      {"count-held", counters.held},
      {"count-workers", counters.workers},
  };
  for (const auto& [key, value] : counts) Add(text, key, value);
  return {text};
}

ControlReply Control::Layers() const {
  const LiveState& state = engine_.state();
  ControlReply reply = {"ok\n"};
  for (uint32_t i = 0; i < state.chain().length; ++i) {
    const Slot slot = state.chain().order[i];
    Add(reply.text, "order", slot);
    reply.descriptors.push_back(state.layer(slot).fd);
  }
  return reply;
}

void Control::Switch(const ControlRequest& request, std::vector<Fd> descriptors, Respond respond) {
  SwitchOrder order = {.top = {.size = engine_.state().chain().size,
                               .map_offset = request.map_offset,
                               .data_offset = request.data_offset},
                       .directory = -1,
                       .old_name = request.old_name,
                       .kept_name = request.kept_name,
                       .next_name = request.next_name,
                       .top_name = request.top_name,
                       .owned_end = request.owned_end};
  if (order.owned_end == 0 || !IsPreparedTop(descriptors[0].get(), order.top))
    return respond(Refusal(EINVAL, "this is no prepared top"));
  if (!IsDirectory(descriptors[1].get())) return respond(Refusal(EINVAL, "this is no directory"));
  try {
    order.top.fd = keeper_.Adopt(std::move(descriptors[0]));
    order.directory = keeper_.Adopt(std::move(descriptors[1]));
  } catch (const SystemFailure& failure) {
    if (order.top.fd >= 0) keeper_.Release(order.top.fd);
    return respond(Refusal(failure.error, Describe(failure)));
  }
  const int top = order.top.fd, directory = order.directory;
  engine_.Switch(std::move(order), [this, respond = std::move(respond), top, directory](int error, Slot slot) {
    ControlReply reply = Outcome(error);
    if (!error) Add(reply.text, "top", slot);
    // A frozen guest waits for the reply.
    respond(reply);
    keeper_.Release(directory);
    if (error) keeper_.Release(top);
  });
}

void Control::Absorb(const ControlRequest& request, Respond respond) {
  if (!IsSlot(request.slot)) return respond(Outcome(-ENOENT));
  engine_.AbsorbBatch(static_cast<Slot>(request.slot), request.block,
                      [respond = std::move(respond)](int error, std::optional<uint64_t> next) {
                        ControlReply reply = Outcome(error);
                        if (!error) next ? Add(reply.text, "next", *next) : Add(reply.text, "done", 1);
                        respond(reply);
                      });
}

void Control::Drop(Slot slot, Respond respond) {
  engine_.Drop(slot, [this, respond = std::move(respond)](int error, int fd) {
    if (!error) keeper_.Release(fd);
    respond(Outcome(error));
  });
}

ControlReply Control::Unguard() const {
  keeper_.Unguard();
  return Outcome(0);
}
