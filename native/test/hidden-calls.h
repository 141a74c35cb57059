#pragma once

#include <dlfcn.h>
#include <sys/stat.h>

#include <cerrno>

/** The function of the C library, or of liburing, that the one of ours with this name hides. */
template <typename Function>
Function* Hidden(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

#define HIDDEN(name) Hidden<decltype(::name)>(#name)

/** False for pipes: handlers of signals use them (libuv's do), and nothing may be locked or allocated there. */
inline bool IsFile(int fd) {
  int error = errno;
  struct stat status;
  bool is_file = fstat(fd, &status) == 0 && !S_ISFIFO(status.st_mode);
  errno = error;
  return is_file;
}
