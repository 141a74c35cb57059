#include "run-copier.h"

#include <fcntl.h>

#include <algorithm>

namespace {

uint64_t OffsetOf(const Layer& layer, uint64_t block) {
  return layer.data_offset + block * kBlockBytes;
}

}  // namespace

RunCopier::RunCopier(Backend& backend, const Layer& source, const Layer& destination)
    : backend_(backend), source_(source), destination_(destination), source_data_(source) {}

std::optional<Run> RunCopier::DataMap::Next(const Run& run) {
  // Beyond V there is nothing of the disk, whatever the file holds there.
  uint64_t start = OffsetOf(layer_, run.first),
           end = std::min(OffsetOf(layer_, run.end), layer_.data_offset + layer_.size);
  if (start >= end) return std::nullopt;
  if (start < from_ || start >= data_.end) {
    from_ = start;
    data_ = FindData(layer_.fd, start).value_or(ByteRange{UINT64_MAX, UINT64_MAX});
  }
  if (data_.start >= end) return std::nullopt;
  auto block_of = [&](uint64_t offset) { return (offset - layer_.data_offset) / kBlockBytes; };
  // The host's blocks may be smaller than ours: what is data in part is data.
  return Run{block_of(std::max(data_.start, start)), block_of(std::min(data_.end, end) + kBlockBytes - 1)};
}

void RunCopier::ForPieces(const Run& run, const std::function<void(const Run&, bool is_data)>& piece) {
  for (uint64_t block = run.first; block < run.end;) {
    std::optional<Run> data = source_data_.Next({block, run.end});
    uint64_t hole_end = data ? data->first : run.end;
    if (block < hole_end) piece({block, hole_end}, false);
    if (data) piece(*data, true);
    block = data ? data->end : run.end;
  }
}

uint64_t RunCopier::Cost(const Run& run) {
  uint64_t cost = 0;
  ForPieces(run, [&](const Run& piece, bool is_data) { cost += is_data ? piece.blocks() * kBlockBytes : kBlockBytes; });
  return cost;
}

uint64_t RunCopier::Copy(const Run& run) {
  uint64_t moved = 0;
  ForPieces(run, [&](const Run& piece, bool is_data) {
    if (is_data) {
      Move(piece);
      moved += piece.blocks() * kBlockBytes;
    } else {
      Zero(piece);
    }
  });
  return moved;
}

void RunCopier::Move(const Run& run) {
  if (!buffer_) buffer_.emplace(AlignedBuffer::kLarge, AlignedBuffer::kAnything);
  uint64_t from = OffsetOf(source_, run.first), to = OffsetOf(destination_, run.first);
  for (uint64_t done = 0, length = run.blocks() * kBlockBytes; done < length;) {
    uint64_t count = std::min<uint64_t>(length - done, buffer_->size());
    ReadAll(backend_, source_.fd, buffer_->data(), count, from + done);
    WriteAll(backend_, destination_.fd, buffer_->data(), count, to + done);
    // Else all lies dirty until the batch's fdatasync. Best effort: not every file system knows it, and small pieces
    // are better left to gather.
    if (count == AlignedBuffer::kLarge) {
      sync_file_range(destination_.fd, static_cast<off_t>(to + done), static_cast<off_t>(count), SYNC_FILE_RANGE_WRITE);
    }
    done += count;
  }
}

void RunCopier::Zero(const Run& run) {
  uint64_t start = OffsetOf(destination_, run.first), end = OffsetOf(destination_, run.end);
  // A hole that is there already costs the host no transaction.
  std::optional<ByteRange> data = FindData(destination_.fd, start);
  if (data && data->start < end) ZeroAll(backend_, destination_.fd, start, end - start);
}
