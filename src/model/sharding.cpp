#include "lathe/sharding.h"

namespace lathe {
namespace {

constexpr std::int64_t kAlignment = 64;  // elements

// Part `rank` of `ranks` of a range, as equal as alignment lets them be.
ElementRange part(ElementRange range, int rank, int ranks) {
  const std::int64_t units = (range.end - range.begin + kAlignment - 1) / kAlignment;
  const auto border = [&](std::int64_t index) {
    return std::min(range.end, range.begin + units * index / ranks * kAlignment);
  };
  return {border(rank), border(rank + 1)};
}

}  // namespace

std::int64_t largest_part(std::int64_t elements, std::int64_t ranks) {
  const std::int64_t units = (elements + kAlignment - 1) / kAlignment;
  return std::min(elements, (units + ranks - 1) / ranks * kAlignment);
}

std::vector<Bucket> make_buckets(const std::vector<ParameterSpec>& specs, int ranks) {
  std::vector<Bucket> buckets;
  const int last_block = specs.back().block - 1;  // has the final LayerNorm in its bucket
  for (const ParameterSpec& spec : specs) {
    if (!buckets.empty()) buckets.back().range.end = spec.offset;
    const int block = std::min(spec.block, last_block);
    if (buckets.empty() || buckets.back().block != block) {
      buckets.push_back({.block = block, .range = {spec.offset, spec.offset}, .parts = {}});
    }
  }
  buckets.back().range.end = parameter_memory_count(specs);
  for (Bucket& bucket : buckets) {
    for (int rank = 0; rank < ranks; ++rank)
      bucket.parts.push_back(part(bucket.range, rank, ranks));
  }
  return buckets;
}

std::vector<ElementRange> parts_of(const std::vector<Bucket>& buckets, int rank) {
  std::vector<ElementRange> ranges;
  for (const Bucket& bucket : buckets) {
    const ElementRange part = bucket.parts[static_cast<std::size_t>(rank)];
    if (part.begin == part.end) continue;
    if (!ranges.empty() && ranges.back().end == part.begin) {
      ranges.back().end = part.end;
    } else {
      ranges.push_back(part);
    }
  }
  return ranges;
}

std::int64_t count_of(const std::vector<ElementRange>& ranges) {
  std::int64_t count = 0;
  for (const ElementRange& range : ranges) count += range.end - range.begin;
  return count;
}

std::int64_t Slices::element_at(std::int64_t at) const {
  for (const ElementRange& range : ranges_) {
    const std::int64_t count = range.end - range.begin;
    if (at < count) return range.begin + at;
    at -= count;
  }
  return -1;
}

}  // namespace lathe
