// Which token comes next: drawn from the distribution that logits give, as the options narrow it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lathe {

// In this order: the temperature divides the logits; the top_k likeliest tokens stay; of those the
// likeliest that together have a probability of at least top_p. Of equally likely ones the lower id
// stays.
struct SamplerOptions {
  double temperature = 1;  // 0: always the likeliest token
  std::int64_t top_k = 0;  // 0: all
  double top_p = 1;        // in (0, 1]; 1: all
};

class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options) : options_(options) {}

  // The token that the number u in [0, 1) stands for, of logits of every token: those that stay
  // share out [0, 1) by probability, in the order of their ids. Errors: diverged, for logits that
  // are not numbers.
  std::int32_t draw(std::span<const float> logits, double u);

 private:
  void keep_likeliest(std::span<const float> logits);
  void keep_likeliest_share(std::span<const float> logits);

  SamplerOptions options_;
  std::vector<std::int32_t> kept_;  // tokens that stay
  std::vector<double> weights_;     // of every token that stays: proportional to its probability
};

}  // namespace lathe
