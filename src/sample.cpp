#include "lathe/sample.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lathe/random.h"
#include "lathe/stop_signal.h"

namespace lathe {

std::int32_t first_token(bool is_text, std::int64_t vocab) {
  constexpr std::int32_t kEndOfText = 50256;
  if (!is_text && vocab > kEndOfText) return kEndOfText;
  return static_cast<std::int32_t>(std::min<std::int64_t>('\n', vocab - 1));
}

std::int32_t draw_token(std::vector<float> logits, double temperature, std::int64_t top_k,
                        double u) {
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto likelier = [&](std::int32_t a, std::int32_t b) {
    const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  if (temperature == 0) return *std::min_element(order.begin(), order.end(), likelier);
  if (top_k > 0 && static_cast<std::size_t>(top_k) < order.size()) {
    std::nth_element(order.begin(), order.begin() + top_k - 1, order.end(), likelier);
    order.resize(static_cast<std::size_t>(top_k));
    std::sort(order.begin(), order.end());
  }
  double highest = -INFINITY, total = 0;
  for (const std::int32_t id : order) {
    highest = std::max(highest, static_cast<double>(logits[static_cast<std::size_t>(id)]));
  }
  const auto weight = [&](std::int32_t id) {
    return std::exp((logits[static_cast<std::size_t>(id)] - highest) / temperature);
  };
  for (const std::int32_t id : order) total += weight(id);
  double left = u * total;
  for (const std::int32_t id : order) {
    left -= weight(id);
    if (left < 0) return id;
  }
  return order.back();
}

void generate(Gpt2& model, const SampleSpec& spec, const std::function<void(std::int32_t)>& emit) {
  const RandomKey key{.seed = spec.seed, .stream = RandomStream::sampling, .substream = 0};
  const auto most = static_cast<std::size_t>(model.options().seq_len);
  std::vector<std::int32_t> tokens = spec.prompt;
  for (std::int64_t i = 0; i < spec.max_tokens && stop_signal() == 0; ++i) {
    const std::span<const std::int32_t> all(tokens);
    const auto window = all.last(std::min(most, all.size()));
    tokens.push_back(draw_token(model.next_token_logits(window), spec.temperature, spec.top_k,
                                uniform(key, static_cast<std::uint64_t>(i))));
    emit(tokens.back());
  }
}

std::string readable(const std::vector<std::int32_t>& tokens, bool is_text) {
  std::string text;
  for (const std::int32_t token : tokens) {
    if (!is_text) {
      text += fmt::format("{} ", token);
    } else {
      text += token == '\n' || (token >= 32 && token < 127) ? static_cast<char>(token) : '?';
    }
  }
  return text;
}

}  // namespace lathe
