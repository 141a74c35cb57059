#pragma once

#include <functional>
#include <optional>

#include "aligned-buffer.h"
#include "backend.h"
#include "layer.h"
#include "map-window.h"

/** Copies runs of blocks from one layer's data to another's: in large pieces, and what is a hole becomes a hole. */
class RunCopier {
 public:
  RunCopier(Backend& backend, const Layer& source, const Layer& destination);

  /** What `Copy` of the run would move, with a block for each piece that is a hole. */
  uint64_t Cost(const Run& run);
  /** Does not sync. Returns the bytes of data that it moved. */
  uint64_t Copy(const Run& run);

 private:
  /** Where a file holds data, asked for piece by piece and remembered for the next run. */
  class DataMap {
   public:
    explicit DataMap(const Layer& layer) : layer_(layer) {}
    /** The first blocks of the run that the host holds data of, in whole blocks. */
    std::optional<Run> Next(const Run& run);

   private:
    const Layer layer_;
    /** What of the file was looked at: no data in [from_, data_.start), nothing known beyond data_.end. */
    uint64_t from_ = 0;
    ByteRange data_{0, 0};
  };

  void ForPieces(const Run& run, const std::function<void(const Run&, bool is_data)>& piece);
  void Move(const Run& run);
  void Zero(const Run& run);

  Backend& backend_;
  const Layer source_, destination_;
  DataMap source_data_;
  /** Made with the first data. */
  std::optional<AlignedBuffer> buffer_;
};
