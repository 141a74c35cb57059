#include "freeze-marker.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

namespace {

/** Whether the locked file still bears its name: whoever held it before has unlinked it. */
bool IsNamed(int fd, const std::string& path) {
  struct stat open_file, named;
  return fstat(fd, &open_file) == 0 && stat(path.c_str(), &named) == 0 && open_file.st_ino == named.st_ino &&
         open_file.st_dev == named.st_dev;
}

}  // namespace

FreezeMarker::FreezeMarker(std::string path, int patience_ms) : path_(std::move(path)) {
  const timespec pause = {.tv_sec = 0, .tv_nsec = 5'000'000};
  for (int waited = 0;; waited += 5) {
    Fd file(Check(open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600), "open", path_));
    const bool is_locked = flock(file.get(), LOCK_EX | LOCK_NB) == 0;
    if (!is_locked && (errno != EWOULDBLOCK || waited >= patience_ms)) CheckOn(file.get(), -1, "flock");
    if (is_locked && IsNamed(file.get(), path_)) {
      file_ = std::move(file);
      return;
    }
    nanosleep(&pause, nullptr);
  }
}

void FreezeMarker::Note(char note) {
  CheckOn(file_.get(), pwrite(file_.get(), &note, 1, 0), "write");
}

bool FreezeMarker::Notes(char note) const {
  char content;
  return pread(file_.get(), &content, 1, 0) == 1 && content == note;
}

FreezeMarker::~FreezeMarker() {
  unlink(path_.c_str());
}
