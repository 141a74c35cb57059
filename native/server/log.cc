#include "log.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#include <cstdio>
#include <cstring>

namespace {

constexpr off_t kMaxLogBytes = 1 << 20;

}  // namespace

void OpenLog(const std::string& path) {
  const Fd log(Check(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600), "open", path));
  struct stat status;
  Check(fstat(log.get(), &status), "fstat", path);
  if (status.st_size > kMaxLogBytes) Check(ftruncate(log.get(), 0), "ftruncate", path);
  Check(dup2(log.get(), STDERR_FILENO), "dup2", path);
}

void Log(const std::string& text) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts;
  gmtime_r(&now.tv_sec, &parts);
  char time[32];
  strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &parts);
  char name[16] = {};
  prctl(PR_GET_NAME, name);
  dprintf(STDERR_FILENO, "%s.%03ldZ %s[%d]: %s\n", time, now.tv_nsec / 1'000'000, name, getpid(), text.c_str());
}

std::string Describe(const SystemFailure& failure) {
  std::string text = failure.call;
  if (!failure.path.empty()) text += " \"" + failure.path + "\"";
  return text + ": " + strerror(failure.error);
}
