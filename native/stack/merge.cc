#include "merge.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "aligned-buffer.h"
#include "map-window.h"
#include "run-copier.h"
#include "system.h"

namespace {

uint64_t BlocksOf(const Layer& layer) {
  return layer.size / kBlockBytes;
}

/** A layer whose file ends early has lost data: what its map promises must not be taken for holes. */
void RequireWhole(const Layer& layer) {
  struct stat status;
  CheckOn(layer.fd, fstat(layer.fd, &status), "fstat");
  if (static_cast<uint64_t>(status.st_size) < layer.data_offset + layer.size) {
    throw SystemFailure{EIO, "fstat", PathOf(layer.fd)};
  }
}

void Append(std::vector<Run>& runs, const Run& run) {
  if (!runs.empty() && runs.back().end == run.first) {
    runs.back().end = run.end;
  } else {
    runs.push_back(run);
  }
}

/** Where in the disk a batch is, and how much it may still move. */
class Progress {
 public:
  Progress(const BatchLimits& limits, uint64_t end)
      : position_(limits.from_block), left_(limits.max_bytes), end_(end) {}

  /** The next run, no longer than may be moved by something that moves each of its blocks `times` times. */
  std::optional<Run> Take(const WordAt& word, uint64_t times = 1) {
    if (left_ < times * kBlockBytes) return std::nullopt;
    uint64_t most = left_ / (times * kBlockBytes);
    std::optional<Run> run = FindRun(word, position_, end_);
    if (run && run->blocks() > most) run->end = run->first + most;
    position_ = run ? run->end : end_;
    return run;
  }
  void Spend(uint64_t bytes) { left_ -= std::min(left_, bytes); }
  std::optional<uint64_t> next_block() const { return position_ < end_ ? std::optional(position_) : std::nullopt; }

 private:
  uint64_t position_, left_, end_;
};

void WriteBlock(Backend& backend, const Layer& layer, uint64_t block, std::span<const std::byte> content) {
  const AlignedBuffer buffer(kBlockBytes);
  std::ranges::copy(content.first(kBlockBytes), static_cast<std::byte*>(buffer.data()));
  WriteAll(backend, layer.fd, buffer.data(), kBlockBytes, layer.data_offset + block * kBlockBytes);
}

/** Data first, then the bits that promise it. Bits that an earlier batch set and failed to sync are durable then, too.
 */
void Publish(Backend& backend, const Layer& delta, const std::vector<Run>& runs) {
  SyncAll(backend, delta.fd);
  if (runs.empty()) return;
  try {
    SetBits(backend, delta, runs);
    SyncAll(backend, delta.fd);
  } catch (const SystemFailure&) {
    // Bits that the page cache still shows might not be durable: the next reader must see the disk's.
    posix_fadvise(delta.fd, static_cast<off_t>(delta.map_offset),
                  static_cast<off_t>((BlocksOf(delta) + kPageBlocks - 1) / kPageBlocks * kBlockBytes),
                  POSIX_FADV_DONTNEED);
    throw;
  }
}

}  // namespace

MergeBatch CopyMissing(Backend& backend, const Layer& source, const Layer& destination, const BatchLimits& limits) {
  RequireWhole(source);
  RequireWhole(destination);
  MapWindow owned(backend, source), present(backend, destination);
  auto wanted = [&](uint64_t block) { return owned.Word(block) & ~present.Word(block); };
  Progress progress(limits, BlocksOf(destination));
  RunCopier copier(backend, source, destination);
  MergeBatch batch;
  std::vector<Run> copied;
  while (std::optional<Run> run = progress.Take(wanted)) {
    progress.Spend(copier.Cost(*run));
    batch.copied_bytes += copier.Copy(*run);
    Append(copied, *run);
  }
  Publish(backend, destination, copied);
  batch.next_block = progress.next_block();
  return batch;
}

MergeBatch FoldBatch(Backend& backend, const Layer& image, const Layer& source, const std::optional<Layer>& keep,
                     const BatchLimits& limits, std::span<const std::byte> block0) {
  RequireWhole(image);
  RequireWhole(source);
  if (keep) RequireWhole(*keep);
  MapWindow owned(backend, source);
  auto is_owned = [&](uint64_t block) { return owned.Word(block); };
  Progress progress(limits, BlocksOf(image));
  RunCopier into(backend, source, image);
  MergeBatch batch;
  std::vector<Run> runs, saved;

  std::optional<MapWindow> present;
  std::optional<RunCopier> out_of;
  if (keep) present.emplace(backend, *keep), out_of.emplace(backend, image, *keep);
  auto lacking = [&](uint64_t block) { return ~present->Word(block); };
  while (std::optional<Run> run = progress.Take(is_owned, keep ? 2 : 1)) {
    progress.Spend(into.Cost(*run));
    Append(runs, *run);
    if (!keep) continue;
    ForRuns(lacking, *run, [&](const Run& lost) {
      progress.Spend(out_of->Cost(lost));
      batch.copied_bytes += out_of->Copy(lost);
      Append(saved, lost);
    });
  }
  if (keep) Publish(backend, *keep, saved);

  for (Run run : runs) {
    if (run.first == 0 && !block0.empty()) {
      WriteBlock(backend, image, run.first++, block0);
      batch.copied_bytes += kBlockBytes;
    }
    if (run.blocks() > 0) batch.copied_bytes += into.Copy(run);
  }
  if (!runs.empty()) SyncAll(backend, image.fd);
  batch.next_block = progress.next_block();
  return batch;
}
