#include "fail-rules.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <sstream>
#include <string_view>

#include "system.h"

namespace {

/** The system calls themselves: those of the C library fail by these rules. */
class RawFile {
 public:
  RawFile(const std::string& path, int flags)
      : fd_(static_cast<int>(syscall(SYS_openat, AT_FDCWD, path.c_str(), flags | O_CLOEXEC, 0600))) {}
  ~RawFile() {
    if (fd_ >= 0) syscall(SYS_close, fd_);
  }
  bool is_open() const { return fd_ >= 0; }

  std::string Text() const {
    std::string text;
    char part[4096];
    for (long count; (count = syscall(SYS_read, fd_, part, sizeof part)) > 0;) text.append(part, count);
    return text;
  }
  /** Returns where it ends then. */
  off_t Append(std::string_view text) const {
    if (syscall(SYS_write, fd_, text.data(), text.size()) < 0) abort();
    return lseek(fd_, 0, SEEK_CUR);
  }

 private:
  int fd_;
};

bool Lists(const std::string& operations, const char* operation) {
  return ("," + operations + ",").find(std::string(",") + operation + ",") != std::string::npos;
}

int Judge(const std::string& rules, const char* operation, const std::string& path, uint64_t offset, uint64_t length) {
  RawFile file(rules, O_RDONLY);
  if (!file.is_open()) return 0;
  std::istringstream lines(file.Text());
  std::string operations, pattern;
  uint64_t begin, end;
  int64_t first, last;
  int error;
  for (int number = 0; lines >> operations >> pattern >> begin >> end >> first >> last >> error; number++) {
    if (!Lists(operations, operation) || fnmatch(pattern.c_str(), path.c_str(), 0) != 0) continue;
    if (offset >= end || (offset < begin && length <= begin - offset)) continue;
    int64_t count = RawFile(rules + "." + std::to_string(number), O_WRONLY | O_APPEND | O_CREAT).Append(".");
    if (count < first || count > last) continue;
    std::ostringstream line;
    line << operation << ' ' << path << ' ' << offset << '\n';
    RawFile(rules + ".failed", O_WRONLY | O_APPEND | O_CREAT).Append(line.str());
    return error;
  }
  return 0;
}

}  // namespace

int FailureOf(const char* operation, const std::string& path, uint64_t offset, uint64_t length) {
  static const char* const rules = std::getenv("LOOPBOX_FAIL");
  if (!rules || path.empty()) return 0;
  int error = errno;
  int failure = Judge(rules, operation, path, offset, length);
  errno = error;
  return failure;
}

int FailureOfFile(const char* operation, int fd, uint64_t offset, uint64_t length) {
  if (!std::getenv("LOOPBOX_FAIL")) return 0;
  int error = errno;
  std::string path = PathOf(fd);
  errno = error;
  return FailureOf(operation, path, offset, length);
}

std::string AbsolutePath(int directory, const char* path) {
  if (path[0] == '/') return path;
  if (directory != AT_FDCWD) return PathOf(directory) + "/" + path;
  char base[PATH_MAX];
  ssize_t length = readlink("/proc/self/cwd", base, sizeof base);
  return length > 0 ? std::string(base, length) + "/" + path : "";
}
