#pragma once

#include <bit>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "aligned-buffer.h"
#include "backend.h"
#include "layer.h"

static_assert(std::endian::native == std::endian::little, "maps are read by the word");

/** Blocks [first, end) of the disk. */
struct Run {
  uint64_t first;
  uint64_t end;

  uint64_t blocks() const { return end - first; }
};

/** How many blocks one page of a map tells of: 128 MiB of disk. */
constexpr uint64_t kPageBlocks = kBlockBytes * 8;

/**
 * A stretch of a layer's presence map, read when it is asked for. Of an image every block is present; and of any layer
 * what lies beyond its V, as zeroes: its content ends there, whatever the layers below it hold.
 */
class MapWindow {
 public:
  /** 64 KiB of map: 2 GiB of disk. */
  static constexpr uint64_t kBlocks = 16 * kPageBlocks;

  MapWindow(Backend& backend, const Layer& layer);

  /** The 64 bits that begin with `block`, a multiple of 64. */
  uint64_t Word(uint64_t block);

 private:
  void Load(uint64_t block);

  Backend& backend_;
  const Layer layer_;
  AlignedBuffer words_;
  /** The first block of what is loaded; none is. */
  uint64_t first_ = UINT64_MAX;
};

/** The 64 bits that begin with a block, a multiple of 64. */
using WordAt = std::function<uint64_t(uint64_t)>;

/** The first run of set bits in [first, end). */
std::optional<Run> FindRun(const WordAt& word, uint64_t first, uint64_t end);

/** Every run of set bits in `range`, in order. */
void ForRuns(const WordAt& word, const Run& range, const std::function<void(const Run&)>& body);

/** Sets the bits of the runs, which are in order, in the layer's map; reads and writes whole pages. Does not sync. */
void SetBits(Backend& backend, const Layer& layer, const std::vector<Run>& runs);
