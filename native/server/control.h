#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "control-request.h"
#include "engine.h"
#include "keeper-link.h"
#include "ring.h"
#include "system.h"

/** What a request is answered with: `ok` or `error ERRNO text`, and lines `key=value`. */
struct ControlReply {
  std::string text;
  /** Copies of these go with it. */
  std::vector<int> descriptors = {};
};

/**
 * Serves the control socket on the worker's ring: one packet, one reply, as often as the peer likes,
 * one after the other. A peer that is not root, or that does not take its replies, is disconnected.
 */
class Control {
 public:
  /** `listener` does not block. All must outlive the ring's last `Run`. */
  Control(Ring& ring, Engine& engine, const KeeperLink& keeper, int listener);
  ~Control();

 private:
  using Respond = std::function<void(ControlReply)>;
  struct Connection;

  void Accept();
  /** For one more connection, at the cost of the oldest that is idle; false where all are at work. */
  bool MakeRoom();
  void Listen(int number);
  /** Handles what has come, until a request is under way or nothing is left. */
  void Pump(int number);
  void Reply(int number, const ControlReply& reply);
  void Disconnect(int number);

  void Handle(const ControlRequest& request, std::vector<Fd> descriptors, Respond respond);
  ControlReply Status() const;
  ControlReply Layers() const;
  void Switch(const ControlRequest& request, std::vector<Fd> descriptors, Respond respond);
  void Absorb(const ControlRequest& request, Respond respond);
  void Drop(Slot slot, Respond respond);
  ControlReply Unguard() const;
  bool IsSlot(uint64_t slot) const;

  Ring& ring_;
  Engine& engine_;
  const KeeperLink& keeper_;
  int listener_;
  std::map<int, std::unique_ptr<Connection>> connections_;
  int next_number_ = 0;
  bool will_accept_ = false;
};
