#include "tensor_statistics.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace lathe {
namespace {

constexpr std::uint64_t kPieceBytes = std::uint64_t{1} << 20;  // bytes, a multiple of every type's

// Moments of the finite values, taken about the first of them so that a large mean costs no
// digits.
class Statistics {
 public:
  void add(double x) {
    if (!std::isfinite(x)) {
      ++non_finite_;
      return;
    }
    if (finite_++ == 0) origin_ = min_ = max_ = x;
    min_ = std::min(min_, x);
    max_ = std::max(max_, x);
    sum_ += x - origin_;
    square_sum_ += (x - origin_) * (x - origin_);
  }

  void append_to(Facts& facts) const {
    const auto count = static_cast<double>(finite_);
    const double mean = sum_ / count;
    const double variance = std::max(0.0, square_sum_ / count - mean * mean);
    const auto fact = [&](double value) { return finite_ > 0 ? Facts(value) : Facts(nullptr); };
    facts["mean"] = fact(origin_ + mean);
    facts["std"] = fact(std::sqrt(variance));
    facts["min"] = fact(min_);
    facts["max"] = fact(max_);
    facts["non_finite"] = non_finite_;
  }

 private:
  std::int64_t finite_ = 0, non_finite_ = 0;
  double origin_ = 0, sum_ = 0, square_sum_ = 0, min_ = 0, max_ = 0;
};

}  // namespace

void append_statistics(Facts& facts, StoredType type, std::uint64_t bytes, const ReadBytes& read) {
  Statistics statistics;
  const auto size = static_cast<std::size_t>(size_of(type));
  std::vector<std::byte> memory(std::min(kPieceBytes, bytes));
  for (std::uint64_t at = 0; at < bytes; at += kPieceBytes) {
    const auto piece = std::span(memory).first(std::min(kPieceBytes, bytes - at));
    read(at, piece);
    for (std::size_t i = 0; i < piece.size(); i += size) {
      statistics.add(element_value(type, piece.data() + i));
    }
  }
  statistics.append_to(facts);
}

}  // namespace lathe
