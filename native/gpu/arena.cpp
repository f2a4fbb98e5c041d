#include "gpu/arena.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/error.hpp"

namespace rocmforge::gpu {
namespace {

constexpr std::int64_t kPage = 4096;
constexpr std::int64_t kAlignment = 16;

std::int64_t round_up(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

Arena::Arena(Device& device, MemoryBudget& budget, std::string purpose, std::int64_t chunk_bytes)
    : device_(device), budget_(budget), purpose_(std::move(purpose)), chunk_bytes_(chunk_bytes) {}

Arena::~Arena() {
  try {
    device_.make_current();
    while (!pieces_.empty()) free(pieces_.begin()->first);
    for (const Chunk& chunk : chunks_) device_.driver().free(chunk.base);
  } catch (const Error&) {  // of a lost device, which frees nothing
  }
  budget_.used -= bytes_reserved_;
}

std::int64_t Arena::room_for(std::int64_t bytes) {
  return round_up(std::max<std::int64_t>(bytes, 1), kPage);
}

void* Arena::allocate(std::int64_t bytes) {
  const std::int64_t guard = device_.driver().guard_bytes();
  const std::int64_t whole = room_for(bytes) + guard;
  Piece piece{};
  bool found = false;
  for (std::size_t i = 0; i < chunks_.size() && !found; ++i) found = take(i, whole, piece);
  if (!found) {
    add_chunk(whole);
    take(chunks_.size() - 1, whole, piece);
  }
  std::byte* begin = chunks_[piece.chunk].page + piece.begin;
  if (guard) {
    // The end of the piece, not its begin, is where the guard has to be.
    std::byte* page = begin + whole - guard;
    device_.driver().guard(page);
    begin = page - round_up(bytes, kAlignment);
  }
  pieces_.emplace(begin, piece);
  bytes_used_ += whole;
  return begin;
}

void Arena::free(void* p) {
  const auto it = pieces_.find(p);
  check(it != pieces_.end(), ErrorCode::kInternal, "freed memory is no piece of this arena");
  const Piece piece = it->second;
  Chunk& chunk = chunks_[piece.chunk];
  const std::int64_t guard = device_.driver().guard_bytes();
  if (guard) device_.driver().unguard(chunk.page + piece.begin + piece.bytes - guard);
  auto gap = chunk.gaps.emplace(piece.begin, piece.bytes).first;
  const auto next = std::next(gap);
  if (next != chunk.gaps.end() && gap->first + gap->second == next->first) {
    gap->second += next->second;
    chunk.gaps.erase(next);
  }
  if (gap != chunk.gaps.begin()) {
    const auto previous = std::prev(gap);
    if (previous->first + previous->second == gap->first) {
      previous->second += gap->second;
      chunk.gaps.erase(gap);
    }
  }
  bytes_used_ -= piece.bytes;
  pieces_.erase(it);
}

bool Arena::take(std::size_t chunk, std::int64_t bytes, Piece& piece) {
  auto& gaps = chunks_[chunk].gaps;
  const auto gap =
      std::find_if(gaps.begin(), gaps.end(), [bytes](const auto& g) { return g.second >= bytes; });
  if (gap == gaps.end()) return false;
  const auto [begin, size] = *gap;
  gaps.erase(gap);
  if (size > bytes) gaps.emplace(begin + bytes, size - bytes);
  piece = {chunk, begin, bytes};
  return true;
}

void Arena::add_chunk(std::int64_t bytes) {
  const std::int64_t left = budget_.limit - budget_.used;
  // The page more lets pieces begin at pages, wherever the driver's memory begins.
  const std::int64_t needed = bytes + kPage;
  const std::int64_t wanted = std::max(needed, std::min(chunk_bytes_, left));
  if (wanted > left)
    throw Error(ErrorCode::kOutOfMemory, "the device has " + std::to_string(left) + " of " +
                                             std::to_string(budget_.limit) +
                                             " bytes left that may be used; " + purpose_ +
                                             " need " + std::to_string(needed) + " more");
  auto* base = static_cast<std::byte*>(device_.allocate(wanted));
  auto* page = reinterpret_cast<std::byte*>(
      round_up(static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(base)), kPage));
  chunks_.push_back({base, page, {{0, (wanted - (page - base)) / kPage * kPage}}});
  bytes_reserved_ += wanted;
  budget_.used += wanted;
}

}  // namespace rocmforge::gpu
