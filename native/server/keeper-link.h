#pragma once

#include "system.h"

/** What a worker asks its keeper for; one packet each, a descriptor beside it where it is `kAdopt`. `kServing` has no
 * answer. */
enum class KeeperVerb : int { kServing, kAdopt, kRelease, kUnguard };

struct KeeperRequest {
  KeeperVerb verb;
  /** Of `kRelease`: the descriptor to close. */
  int fd;
};

/**
 * A worker's way to its keeper, who holds each layer's descriptor by the same number as the worker, so that the next
 * worker finds it. Calls wait for the keeper, which answers at once; they throw a SystemFailure where it does not
 * within 5 s.
 */
class KeeperLink {
 public:
  explicit KeeperLink(Fd socket) : socket_(std::move(socket)) {}

  /** Tells that all is set up: who dies later has not died of that. */
  void TellServing() const;

  /**
   * Has the keeper hold a descriptor, too. The caller's moves to the number by which both hold it, which is returned;
   * it is to be named in the live state before the call after this, because the keeper lets go of what no slot names
   * whenever a worker dies.
   */
  int Adopt(Fd fd) const;

  /** Closes a layer's descriptor here and there. To be called after no slot names it any more. */
  void Release(int fd) const;

  /** Lets go of the guard loop device; done where there is none. */
  void Unguard() const;

 private:
  void Send(KeeperRequest request, int fd) const;
  int Ask(KeeperRequest request, int fd) const;

  Fd socket_;
};

/** A request that came to the keeper, and its descriptor where it has one. */
struct ReceivedRequest {
  KeeperRequest request;
  Fd fd;
};

/** The keeper's side: takes one packet. Throws a SystemFailure (EPROTO) for what is none, ECONNRESET at the worker's
 * end. */
ReceivedRequest ReceiveKeeperRequest(int socket);

/** Answers it: a descriptor's number, 0, or a negative errno. */
void AnswerKeeperRequest(int socket, int answer);
