#pragma once

#include <functional>

#include "transport.h"

/** What a worker needs of a transport beside the engine. */
class ServerTransport : public Transport {
 public:
  /** Begins to take requests. Calls back once, when none will come any more. Throws a SystemFailure. */
  virtual void Start(std::function<void()> ended) = 0;

  /** Has what a dead worker took and did not answer come again. Returns false, with errno, where it can't. */
  virtual bool AskAgain() = 0;
};
