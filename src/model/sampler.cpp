#include "lathe/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "lathe/error.h"

namespace lathe {
namespace {

std::size_t index(std::int32_t token) {
  return static_cast<std::size_t>(token);
}

// An order without ties.
auto likelier_by(std::span<const float> logits) {
  return [logits](std::int32_t a, std::int32_t b) {
    const float x = logits[index(a)], y = logits[index(b)];
    return x != y ? x > y : a < b;
  };
}

// Lane by lane, as compilers make vectors of it; NaN is passed over.
float largest_of(std::span<const float> logits) {
  constexpr std::size_t kLanes = 16;
  std::array<float, kLanes> lanes;
  lanes.fill(-std::numeric_limits<float>::infinity());
  const auto larger = [](float a, float b) { return b > a ? b : a; };
  const std::size_t whole = logits.size() / kLanes * kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t k = 0; k < kLanes; ++k) lanes[k] = larger(lanes[k], logits[i + k]);
  }
  float largest = lanes[0];
  for (const float x : lanes) largest = larger(largest, x);
  for (const float x : logits.subspan(whole)) largest = larger(largest, x);
  return largest;
}

// The first of the largest. -infinity is a logit: that of a token which never comes.
std::int32_t likeliest(std::span<const float> logits) {
  constexpr std::size_t kPart = 1024;  // only the one that has it is searched
  std::size_t begin = 0;
  float largest = -std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i < logits.size(); i += kPart) {
    const float x = largest_of(logits.subspan(i, std::min(kPart, logits.size() - i)));
    if (x > largest) {
      largest = x;
      begin = i;
    }
  }
  const bool has_nan = std::ranges::count_if(logits, [](float x) { return std::isnan(x); }) > 0;
  if (has_nan || !std::isfinite(largest)) {
    throw Error(ExitCode::diverged,
                "the model's logits are not numbers: its parameters are damaged or have diverged");
  }
  const auto place = std::ranges::find(logits.subspan(begin), largest);
  return static_cast<std::int32_t>(begin) +
         static_cast<std::int32_t>(place - logits.subspan(begin).begin());
}

}  // namespace

std::int32_t Sampler::draw(std::span<const float> logits, double u) {
  const std::int32_t first = likeliest(logits);
  if (options_.temperature == 0) return first;
  kept_.resize(logits.size());
  std::iota(kept_.begin(), kept_.end(), 0);
  keep_likeliest(logits);
  // Below 1, so that nothing overflows, and 1 for the likeliest token whatever the temperature.
  const double highest = logits[index(first)];
  weights_.resize(logits.size());
  for (const std::int32_t id : kept_) {
    weights_[index(id)] = std::exp((logits[index(id)] - highest) / options_.temperature);
  }
  keep_likeliest_share(logits);

  double total = 0;
  for (const std::int32_t id : kept_) total += weights_[index(id)];
  double left = u * total;
  std::int32_t last = first;
  for (const std::int32_t id : kept_) {
    if (weights_[index(id)] == 0) continue;
    left -= weights_[index(id)];
    if (left < 0) return id;
    last = id;
  }
  return last;  // rounding has left a little
}

void Sampler::keep_likeliest(std::span<const float> logits) {
  const auto k = static_cast<std::size_t>(options_.top_k);
  if (k == 0 || k >= kept_.size()) return;
  std::ranges::nth_element(kept_, kept_.begin() + options_.top_k - 1, likelier_by(logits));
  kept_.resize(k);
  std::ranges::sort(kept_);
}

// Only as many of the likeliest are sorted as it takes, in stages, each larger than the one before.
void Sampler::keep_likeliest_share(std::span<const float> logits) {
  if (options_.top_p >= 1) return;
  double wanted = 0, sum = 0;
  for (const std::int32_t id : kept_) wanted += weights_[index(id)];
  wanted *= options_.top_p;
  std::size_t count = 0;  // of the tokens that stay
  for (std::size_t stage = 64; count < kept_.size() && sum < wanted; stage *= 4) {
    const auto begin = kept_.begin() + static_cast<std::ptrdiff_t>(count);
    const auto end = kept_.end() - begin > static_cast<std::ptrdiff_t>(stage)
                         ? begin + static_cast<std::ptrdiff_t>(stage)
                         : kept_.end();
    std::partial_sort(begin, end, kept_.end(), likelier_by(logits));
    for (auto id = begin; id != end && sum < wanted; ++id, ++count) sum += weights_[index(*id)];
  }
  kept_.resize(count);
  std::ranges::sort(kept_);
}

}  // namespace lathe
