#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine.h"

namespace {

/** A read of more pieces takes two layers whole and merges them: 256 small reads cost more than one large one. */
constexpr unsigned kManyPieces = 8;

}  // namespace

void Engine::Read(Request& request) {
  state_.counters().reads++;
  BlockMap::Extent extent = map_.Find(request.begin(), request.end());
  if (extent.end < request.end() || extent.owner == BlockMap::kNobody) return ReadParts(request);
  ring_.Room(1 + Transport::kAnswerEntries);
  Send(request, kChain, IORING_OP_READ, extent.owner, request.offset, request.data, request.length, chain_flags_);
  AnswerBehind(request);
}

void Engine::ReadParts(Request& request) {
  state_.counters().split_reads++;
  request.error_ = 0;
  request.done_ = request.expected_ = 0;
  if (ReadTwoLayers(request)) return;
  for (uint64_t block = request.begin(); block < request.end();) {
    BlockMap::Extent extent = map_.Find(block, request.end());
    char* data = request.data + (block - request.begin()) * kBlockBytes;
    uint64_t length = (extent.end - block) * kBlockBytes;
    if (extent.owner == BlockMap::kNobody) {
      std::memset(data, 0, length);
    } else {
      SendPart(request, extent.owner, block, data, length);
    }
    block = extent.end;
  }
  if (request.under_way_ == 0) Answer(request, 0);
}

void Engine::SendPart(Request& request, Slot slot, uint64_t block, char* data, uint64_t length) {
  Send(request, kPart, IORING_OP_READ, slot, block * kBlockBytes, data, length, 0);
  request.under_way_++;
  request.expected_ += length;
}

bool Engine::ReadTwoLayers(Request& request) {
  unsigned pieces = 0;
  int lower = -1, upper = -1;
  request.from_aside_.reset();
  for (uint64_t block = request.begin(); block < request.end(); pieces++) {
    BlockMap::Extent extent = map_.Find(block, request.end());
    if (extent.owner == BlockMap::kNobody) return false;
    if (lower < 0) lower = extent.owner;
    if (extent.owner != lower) {
      if (upper < 0) upper = extent.owner;
      if (extent.owner != upper) return false;
      for (uint64_t at = block; at < extent.end; at++) request.from_aside_.set(at - request.begin());
    }
    block = extent.end;
  }
  if (pieces <= kManyPieces || !(request.aside_ = scratch_.TakeAside())) return false;
  state_.counters().merged_reads++;
  SendPart(request, static_cast<Slot>(lower), request.begin(), request.data, request.length);
  SendPart(request, static_cast<Slot>(upper), request.begin(), request.aside_, request.length);
  return true;
}

void Engine::EndPart(Request& request, int result) {
  if (result < 0) {
    request.error_ = result;
  } else {
    request.done_ += static_cast<uint64_t>(result);
  }
  if (--request.under_way_ > 0) return;
  bool is_whole = request.error_ == 0 && request.done_ == request.expected_;
  if (request.aside_) {
    for (uint64_t block = 0; is_whole && block < request.end() - request.begin(); block++) {
      uint64_t at = block * kBlockBytes;
      if (request.from_aside_[block]) std::memcpy(request.data + at, request.aside_ + at, kBlockBytes);
    }
    scratch_.ReturnAside(request.aside_);
    request.aside_ = nullptr;
  }
  if (request.error_) return Fail(request, request.error_);
  is_whole ? Answer(request, 0) : StartPieces(request);
}

bool Engine::SendReadPiece(Request& request) {
  uint64_t block = request.begin() + request.done_ / kBlockBytes;
  BlockMap::Extent extent = map_.Find(block, request.end());
  uint64_t length = (extent.end - block) * kBlockBytes;
  char* data = request.data + request.done_;
  if (extent.owner == BlockMap::kNobody) {
    std::memset(data, 0, length);
    request.done_ += length;
    return false;
  }
  Send(request, kPiece, IORING_OP_READ, extent.owner, block * kBlockBytes, data, length, 0);
  return true;
}
