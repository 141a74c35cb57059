#pragma once

#include <cstdint>

/** The unit of maps and merges: the data of block `b` of the disk lies at `data_offset + b * kBlockBytes`. */
constexpr uint64_t kBlockBytes = 4096;

/** One file of a chain as the engine sees it: geometry, and a descriptor that somebody else owns. */
struct Layer {
  int fd = -1;
  /** An image owns every block, and has no map. */
  bool is_image = false;
  /** V, a multiple of kBlockBytes. What a larger layer above lacks from there on reads as zeroes. */
  uint64_t size = 0;
  /** Where the presence map begins: a bit for each block, the lowest bit of a byte first. */
  uint64_t map_offset = 0;
  uint64_t data_offset = 0;
  /** Bits of blocks below it no longer count: a fold has carried their data into the image, and may have punched it. */
  uint64_t first_block = 0;
};
