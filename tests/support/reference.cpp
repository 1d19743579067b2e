#include "support/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace lathe::test::reference {
namespace {

std::size_t index(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

// Offsets of row t of a head's query, key and value in (B, T, 3C), and of its output in (B, T, C).
struct HeadRow {
  std::int64_t query, key, value, out;
};
HeadRow head_row(const AttentionShape& s, std::int64_t b, std::int64_t h, std::int64_t t) {
  const std::int64_t row = b * s.T + t, channel = h * (s.C / s.H);
  const std::int64_t query = row * 3 * s.C + channel;
  return {query, query + s.C, query + 2 * s.C, row * s.C + channel};
}

double dot(const Doubles& a, std::int64_t a_at, const Doubles& b, std::int64_t b_at,
           std::int64_t count) {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += a[index(a_at + i)] * b[index(b_at + i)];
  return sum;
}

struct Softmax {
  Doubles probabilities;
  double log_sum_exp;
};
Softmax softmax(const Doubles& scores) {
  const double max = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (const double s : scores) sum += std::exp(s - max);
  Softmax result{.probabilities = scores, .log_sum_exp = max + std::log(sum)};
  for (double& p : result.probabilities) p = std::exp(p - result.log_sum_exp);
  return result;
}

// Probabilities of query t over keys 0..t.
Softmax attention_row(const Doubles& qkv, const AttentionShape& s, std::int64_t b, std::int64_t h,
                      std::int64_t t) {
  const std::int64_t D = s.C / s.H;
  Doubles scores;
  for (std::int64_t k = 0; k <= t; ++k) {
    scores.push_back(dot(qkv, head_row(s, b, h, t).query, qkv, head_row(s, b, h, k).key, D) /
                     std::sqrt(static_cast<double>(D)));
  }
  return softmax(scores);
}

}  // namespace

Doubles widen(std::span<const float> values) {
  return {values.begin(), values.end()};
}

Doubles central_differences(const std::function<Doubles(const Doubles&)>& f, Doubles x,
                            const Doubles& weights) {
  constexpr double kStep = 1e-5;
  const auto value = [&] {
    const Doubles y = f(x);
    return std::inner_product(y.begin(), y.end(), weights.begin(), 0.0);
  };
  Doubles gradient;
  for (double& element : x) {
    const double kept = element;
    element = kept + kStep;
    const double above = value();
    element = kept - kStep;
    const double below = value();
    element = kept;
    gradient.push_back((above - below) / (2 * kStep));
  }
  return gradient;
}

LayerNorm layernorm(const Doubles& x, const Doubles& gain, const Doubles& bias) {
  const std::size_t C = gain.size();
  LayerNorm result{.out = x, .mean = {}, .rstd = {}};
  for (std::size_t row = 0; row < x.size(); row += C) {
    double mean = 0, variance = 0;
    for (std::size_t c = 0; c < C; ++c) mean += x[row + c] / static_cast<double>(C);
    for (std::size_t c = 0; c < C; ++c) {
      variance += (x[row + c] - mean) * (x[row + c] - mean) / static_cast<double>(C);
    }
    const double rstd = 1 / std::sqrt(variance + 1e-5);
    for (std::size_t c = 0; c < C; ++c) {
      result.out[row + c] = (x[row + c] - mean) * rstd * gain[c] + bias[c];
    }
    result.mean.push_back(mean);
    result.rstd.push_back(rstd);
  }
  return result;
}

LayerNormGradients layernorm_gradients(const Doubles& d_out, const Doubles& x,
                                       const Doubles& gain) {
  const std::size_t C = gain.size();
  const Doubles ones(C, 1.0), zeros(C, 0.0);
  const LayerNorm normal = layernorm(x, ones, zeros);  // out: the normalised rows
  LayerNormGradients result{.d_x = x, .d_gain = zeros, .d_bias = zeros};
  for (std::size_t row = 0; row < x.size(); row += C) {
    double g_mean = 0, gy_mean = 0;
    for (std::size_t c = 0; c < C; ++c) {
      const double g = d_out[row + c] * gain[c], y = normal.out[row + c];
      g_mean += g / static_cast<double>(C);
      gy_mean += g * y / static_cast<double>(C);
      result.d_gain[c] += d_out[row + c] * y;
      result.d_bias[c] += d_out[row + c];
    }
    for (std::size_t c = 0; c < C; ++c) {
      result.d_x[row + c] = normal.rstd[row / C] *
                            (d_out[row + c] * gain[c] - g_mean - normal.out[row + c] * gy_mean);
    }
  }
  return result;
}

Attention attention(const Doubles& qkv, const AttentionShape& s) {
  const std::int64_t D = s.C / s.H;
  Attention result{.out = Doubles(index(s.B * s.T * s.C)), .log_sum_exp = {}};
  for (std::int64_t b = 0; b < s.B; ++b) {
    for (std::int64_t h = 0; h < s.H; ++h) {
      for (std::int64_t t = 0; t < s.T; ++t) {
        const Softmax row = attention_row(qkv, s, b, h, t);
        result.log_sum_exp.push_back(row.log_sum_exp);
        for (std::int64_t k = 0; k <= t; ++k) {
          for (std::int64_t d = 0; d < D; ++d) {
            result.out[index(head_row(s, b, h, t).out + d)] +=
                row.probabilities[index(k)] * qkv[index(head_row(s, b, h, k).value + d)];
          }
        }
      }
    }
  }
  return result;
}

Doubles attention_gradient(const Doubles& d_out, const Doubles& qkv, const Doubles& out,
                           const AttentionShape& s) {
  const std::int64_t D = s.C / s.H;
  const double scale = 1 / std::sqrt(static_cast<double>(D));
  Doubles d_qkv(qkv.size());
  for (std::int64_t b = 0; b < s.B; ++b) {
    for (std::int64_t h = 0; h < s.H; ++h) {
      for (std::int64_t t = 0; t < s.T; ++t) {
        const Doubles p = attention_row(qkv, s, b, h, t).probabilities;
        const HeadRow at = head_row(s, b, h, t);
        const double out_dot = dot(d_out, at.out, out, at.out, D);
        for (std::int64_t k = 0; k <= t; ++k) {
          const HeadRow to = head_row(s, b, h, k);
          const double d_score = p[index(k)] * (dot(d_out, at.out, qkv, to.value, D) - out_dot);
          for (std::int64_t d = 0; d < D; ++d) {
            d_qkv[index(to.value + d)] += p[index(k)] * d_out[index(at.out + d)];
            d_qkv[index(at.query + d)] += d_score * scale * qkv[index(to.key + d)];
            d_qkv[index(to.key + d)] += d_score * scale * qkv[index(at.query + d)];
          }
        }
      }
    }
  }
  return d_qkv;
}

CrossEntropy cross_entropy(const Doubles& logits, std::span<const std::int32_t> targets,
                           const VocabShape& shape, double scale) {
  CrossEntropy result{.losses = {}, .d_logits = Doubles(logits.size())};
  for (std::size_t n = 0; n < targets.size(); ++n) {
    const std::int64_t row = static_cast<std::int64_t>(n) * shape.padded;
    const auto first = logits.begin() + row;
    const Softmax of_row = softmax(Doubles(first, first + shape.vocab));
    result.losses.push_back(of_row.log_sum_exp - first[targets[n]]);
    for (std::int64_t i = 0; i < shape.vocab; ++i) {
      const double one_hot = i == targets[n] ? 1 : 0;
      result.d_logits[index(row + i)] = (of_row.probabilities[index(i)] - one_hot) * scale;
    }
  }
  return result;
}

void adamw(AdamWState& state, const Doubles& gradient, const std::vector<bool>& decays,
           const AdamW& options, std::int64_t step) {
  double square_sum = 0;
  for (const double g : gradient) square_sum += g * g;
  const double clip = options.grad_clip > 0
                          ? std::min(1.0, options.grad_clip / (std::sqrt(square_sum) + 1e-6))
                          : 1.0;
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    const double g = clip * gradient[i];
    state.m[i] = options.beta1 * state.m[i] + (1 - options.beta1) * g;
    state.v[i] = options.beta2 * state.v[i] + (1 - options.beta2) * g * g;
    const double m_hat = state.m[i] / (1 - std::pow(options.beta1, step));
    const double v_hat = state.v[i] / (1 - std::pow(options.beta2, step));
    const double decay = decays[i] ? options.weight_decay : 0;
    state.parameter[i] -= options.learning_rate *
                          (m_hat / (std::sqrt(v_hat) + options.eps) + decay * state.parameter[i]);
  }
}

}  // namespace lathe::test::reference
