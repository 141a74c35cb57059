#pragma once

#include <cstdio>
#include <cstdlib>

#include "system.h"

/** Ends the test program with the place and the condition that does not hold; unlike assert, in every build. */
#define EXPECT(condition)                                                          \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                                \
    }                                                                              \
  } while (false)

/** The errno that `body` fails with, or 0. */
template <typename Body>
int ErrorOf(Body body) {
  try {
    body();
    return 0;
  } catch (const SystemFailure& failure) {
    return failure.error;
  }
}
