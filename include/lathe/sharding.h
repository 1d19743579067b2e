// How the elements of flat parameter memory are shared out among ranks (ZeRO-1, Rajbhandari et al.
// 2020): a bucket is what the backward pass finishes together, a block's elements, and each rank
// has a part of every bucket. So sums can begin with the last block, and all ranks have as much to
// do.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "lathe/model_config.h"
#include "lathe/ops.h"
#include "lathe/tensor.h"

namespace lathe {

struct Bucket {
  int block;  // ParameterSpec::block; the last one has the final LayerNorm too
  ElementRange range;
  std::vector<ElementRange> parts;  // by rank, one after another; some may be empty
};

// Parts begin at multiples of 64 elements, as parameters do.
std::vector<Bucket> make_buckets(const std::vector<ParameterSpec>& specs, int ranks);

// Elements of the largest part of a bucket.
std::int64_t largest_part(std::int64_t elements, std::int64_t ranks);

// The parts of a rank, ascending; neighbours are one.
std::vector<ElementRange> parts_of(const std::vector<Bucket>& buckets, int rank);

std::int64_t count_of(const std::vector<ElementRange>& ranges);

// Memory that holds some ranges of elements of flat memory, one after another.
class Slices {
 public:
  Slices(const Tensor& whole) : ranges_{{0, whole.count()}}, memory_(whole) {}  // NOLINT: is one
  Slices(std::vector<ElementRange> ranges, const Tensor& memory)
      : ranges_(std::move(ranges)), memory_(memory) {}

  const std::vector<ElementRange>& ranges() const { return ranges_; }
  const Tensor& memory() const { return memory_; }
  DType type() const { return memory_.type(); }

  // The elements of [begin, end) that are here, in pieces: visit(first element, its memory).
  template <class Visit>
  void for_each_piece(std::int64_t begin, std::int64_t end, const Visit& visit) const {
    std::int64_t at = 0;  // of a range, in memory
    for (const ElementRange& range : ranges_) {
      const std::int64_t from = std::max(begin, range.begin), to = std::min(end, range.end);
      if (from < to) visit(from, memory_.slice(at + from - range.begin, to - from));
      at += range.end - range.begin;
    }
  }

  // The element of flat memory that is at index `at` of memory().
  std::int64_t element_at(std::int64_t at) const;

 private:
  std::vector<ElementRange> ranges_;
  Tensor memory_;
};

}  // namespace lathe
