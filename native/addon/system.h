#pragma once

#include <limits.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

/** A failed system call. What throws it never touches Napi, so it may run on any thread. */
struct SystemFailure {
  int error;
  const char* call;
  std::string path = {};
  /** Index of the archive entry that failed, or -1. */
  int entry = -1;
};

/** Throws errno as a SystemFailure if `result` is negative; returns `result` otherwise. */
template <typename Result>
Result Check(Result result, const char* call, std::string path = {}) {
  if (result < 0) throw SystemFailure{errno, call, std::move(path)};
  return result;
}

/** The kernel's name of what is open there; empty for what is no file. */
inline std::string PathOf(int fd) {
  char path[PATH_MAX];
  ssize_t length = readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, sizeof path);
  return length > 0 && path[0] == '/' ? std::string(path, length) : "";
}

/** Check for a call on a descriptor: the failure names its file. */
template <typename Result>
Result CheckOn(int fd, Result result, const char* call) {
  if (result >= 0) return result;
  int error = errno;
  throw SystemFailure{error, call, PathOf(fd)};
}

/** An owned descriptor, closed with its scope. */
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }

  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};
