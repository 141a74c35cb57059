#include "map-read.h"

#include <cerrno>
#include <utility>

#include "layer.h"

void MapRead::Start(int file, char* data, uint64_t length, uint64_t offset, std::function<void(int error)> done) {
  file_ = file;
  data_ = data;
  length_ = length;
  offset_ = offset;
  done_ = std::move(done);
  Send();
}

void MapRead::Send() {
  ring_.Next(this, 0, IORING_OP_READ, file_, data_, static_cast<uint32_t>(length_), offset_, IOSQE_FIXED_FILE);
}

void MapRead::Complete(unsigned, int result, unsigned) {
  // Direct I/O goes on at whole blocks only.
  uint64_t whole = result < 0 ? 0 : result / kBlockBytes * kBlockBytes;
  data_ += whole;
  offset_ += whole;
  length_ -= whole;
  if (length_ > 0 && whole > 0) return Send();
  std::function<void(int)> done = std::move(done_);
  done(length_ == 0 ? 0 : result < 0 ? result : -EIO);
}
