#include "sparse.h"

#include <sys/stat.h>

#include <string>

#include "assert.h"
#include "temporary.h"

namespace {

constexpr int64_t kMiB = 1 << 20;

Fd Create(const TemporaryDirectory& directory, const std::string& name, int64_t size) {
  Fd file(Check(open((directory / name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600), "open"));
  Check(ftruncate(file.get(), size), "ftruncate");
  return file;
}

void Put(const Fd& file, int64_t offset, const std::string& text) {
  EXPECT(pwrite(file.get(), text.data(), text.size(), offset) == static_cast<ssize_t>(text.size()));
}

std::string Take(const Fd& file, int64_t offset, size_t length) {
  std::string text(length, '?');
  EXPECT(pread(file.get(), text.data(), length, offset) == static_cast<ssize_t>(length));
  return text;
}

void TestNextData() {
  TemporaryDirectory directory;
  Fd file = Create(directory, "file", 64 * kMiB);
  EXPECT(!NextData(file.get(), 0));
  Put(file, 8 * kMiB, "data");
  auto range = NextData(file.get(), 0);
  EXPECT(range && range->start == 8 * kMiB && range->end > range->start && range->end <= 9 * kMiB);
  EXPECT(NextData(file.get(), 8 * kMiB + 1)->start == 8 * kMiB + 1);
  EXPECT(!NextData(file.get(), range->end));
  EXPECT(!NextData(file.get(), 65 * kMiB));
  EXPECT(ErrorOf([] { NextData(-1, 0); }) == EBADF);
}

void TestDataRanges() {
  TemporaryDirectory directory;
  Fd file = Create(directory, "file", 64 * kMiB);
  EXPECT(DataRanges(file.get(), 0, 64 * kMiB).empty());
  Put(file, 8 * kMiB, std::string(kMiB, 'x'));
  Put(file, 16 * kMiB, std::string(kMiB, 'x'));
  auto ranges = DataRanges(file.get(), 8 * kMiB + 4096, 16 * kMiB + 4096);
  EXPECT(ranges.size() == 2);
  EXPECT(ranges[0].start == 8 * kMiB + 4096 && ranges[0].end == 9 * kMiB);
  EXPECT(ranges[1].start == 16 * kMiB && ranges[1].end == 16 * kMiB + 4096);
  EXPECT(DataRanges(file.get(), 9 * kMiB, 16 * kMiB).empty());
}

void TestCopyRanges() {
  TemporaryDirectory directory;
  Fd source = Create(directory, "source", 20 * kMiB), destination = Create(directory, "destination", 20 * kMiB);
  Put(source, 0, "start");
  Put(source, 9 * kMiB - 2, "across");
  EXPECT(CopyRanges(source.get(), destination.get(), 0, {{0, 20 * kMiB}}, false) == 0);
  EXPECT(Take(destination, 0, 5) == "start");
  EXPECT(Take(destination, 9 * kMiB - 2, 6) == "across");
  // Small and large ones, from elsewhere in the source.
  CopyRanges(source.get(), destination.get(), 9 * kMiB - 102, {{100, 106}, {kMiB, 3 * kMiB}}, false);
  EXPECT(Take(destination, 100, 6) == "across");
  EXPECT(Take(destination, 99, 1) == std::string(1, '\0'));
  EXPECT(ErrorOf([&] { CopyRanges(source.get(), destination.get(), 19 * kMiB, {{0, 2 * kMiB}}, false); }) == ENODATA);
  EXPECT(ErrorOf([&] { CopyRanges(source.get(), destination.get(), 20 * kMiB, {{0, 6}}, false); }) == ENODATA);
}

/** /proc files have no copy_file_range, as two file systems have none: read and write take over. */
void TestCopyRangesWithoutTheCall() {
  TemporaryDirectory directory;
  Fd source(Check(open("/proc/self/status", O_RDONLY | O_CLOEXEC), "open"));
  Fd destination = Create(directory, "destination", 0);
  CopyRanges(source.get(), destination.get(), 0, {{0, 5}}, true);
  EXPECT(Take(destination, 0, 5) == "Name:");
  EXPECT(ErrorOf([&] { CopyRanges(source.get(), destination.get(), 0, {{0, kMiB}}, false); }) == ENODATA);
}

void TestRangesAreSharedOrCopied() {
  TemporaryDirectory directory;
  Fd source = Create(directory, "source", kMiB), destination = Create(directory, "destination", kMiB);
  Put(source, 65536, std::string(65536, 's'));
  int64_t shared = CopyRanges(source.get(), destination.get(), 65536, {{0, 65536}}, true);
  EXPECT(shared == 0 || shared == 65536);
  EXPECT(Take(destination, 0, 6) == "ssssss");
  // Never in parts of blocks.
  EXPECT(CopyRanges(source.get(), destination.get(), 65536, {{1, 6}}, true) == 0);
  EXPECT(ErrorOf([&] { CopyRanges(source.get(), -1, 0, {{0, 65536}}, true); }) == EBADF);
}

void TestSharedBytes() {
  TemporaryDirectory directory;
  Fd file = Create(directory, "file", 64 * kMiB);
  if (int error = ErrorOf([&] { SharedBytes(file.get()); }); error == EOPNOTSUPP) return;  // tmpfs
  // More extents than one FIEMAP call returns.
  for (int i = 0; i < 1500; i++) Put(file, i * 16384, std::string(4096, 'x'));
  EXPECT(fsync(file.get()) == 0);
  EXPECT(SharedBytes(file.get()) == 0);
}

void TestFailuresNameTheirFile() {
  TemporaryDirectory directory;
  Create(directory, "file", kMiB);
  Fd file(Check(open((directory / "file").c_str(), O_RDONLY | O_CLOEXEC), "open"));
  Fd source = Create(directory, "source", kMiB);
  try {
    CopyRanges(source.get(), file.get(), 0, {{0, kMiB}}, false);
    EXPECT(false);
  } catch (const SystemFailure& failure) {
    EXPECT(failure.error == EBADF && failure.path == directory / "file");
  }
}

}  // namespace

int main() {
  TestNextData();
  TestDataRanges();
  TestCopyRanges();
  TestCopyRangesWithoutTheCall();
  TestRangesAreSharedOrCopied();
  TestSharedBytes();
  TestFailuresNameTheirFile();
}
