#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "backend.h"
#include "layer.h"

/** What a batch of a merge did. */
struct MergeBatch {
  /** Where the next batch begins; nothing when all is done. */
  std::optional<uint64_t> next_block;
  /** Data that was moved: holes are not counted. */
  uint64_t copied_bytes = 0;
};

/** Where a batch begins, and about how many bytes it moves at most (a hole counts as one block). */
struct BatchLimits {
  uint64_t from_block = 0;
  uint64_t max_bytes = 64 << 20;
};

// All of these are for layers that no one else writes to. A batch that failed or was cut off is done again from the
// same block: it changes nothing that was done.

/**
 * Absorb: copies what `source` owns and the delta `destination` lacks, then tells so in its map: data, fdatasync, bits,
 * fdatasync.
 */
MergeBatch CopyMissing(Backend& backend, const Layer& source, const Layer& destination, const BatchLimits& limits);

/**
 * Fold: with `keep`, the blocks of `image` that `source` owns and the delta `keep` lacks are first copied to it as by
 * `CopyMissing`; then the blocks that `source` owns go into `image`, and fdatasync. What is told of `block0` takes the
 * place of the one that `source` owns: the image may not be one that stock tools write to, at no moment.
 */
MergeBatch FoldBatch(Backend& backend, const Layer& image, const Layer& source, const std::optional<Layer>& keep,
                     const BatchLimits& limits, std::span<const std::byte> block0 = {});
