#include "lathe/sample.h"

#include <fmt/format.h>

#include <algorithm>

#include "lathe/gpt2_tokens.h"
#include "lathe/random.h"
#include "lathe/stop_signal.h"

namespace lathe {
namespace {

// Samples made side by side: each a sequence of the decoder.
class Group {
 public:
  Group(Decoder& decoder, const SampleSpec& spec, std::int64_t first, std::int64_t count)
      : decoder_(decoder), spec_(spec), sampler_(spec.sampler), first_(first) {
    const std::span<const std::int32_t> prompt(spec.prompt);
    const auto seen = prompt.last(std::min(prompt.size(), positions()));
    tokens_.assign(static_cast<std::size_t>(count), {seen.begin(), seen.end()});
    ended_.resize(tokens_.size());
    const std::vector<float> row = decoder.begin(0, count, seen);
    for (std::int64_t i = 0; i < count; ++i) add_logits(row);
  }

  // Draws token number i of each sample that has not ended; returns whether any goes on.
  template <class Emit>
  bool draw(std::int64_t i, const Emit& emit) {
    next_.resize(tokens_.size());
    for (std::size_t s = 0; s < tokens_.size(); ++s) {
      if (ended_[s]) continue;
      const auto sample = first_ + static_cast<std::int64_t>(s);
      const RandomKey key{.seed = spec_.seed,
                          .stream = RandomStream::sampling,
                          .substream = static_cast<std::uint32_t>(sample)};
      next_[s] = sampler_.draw({logits_.data() + s * vocab(), vocab()},
                               uniform(key, static_cast<std::uint64_t>(i)));
      ended_[s] = next_[s] == spec_.end;
      emit(sample, next_[s]);
    }
    return std::ranges::find(ended_, false) != ended_.end();
  }

  // Lets the model see the tokens drawn. Samples that have ended go along.
  void advance() {
    const bool is_full = tokens_.front().size() == positions();
    logits_ = is_full ? std::vector<float>() : decoder_.append(next_);
    for (std::size_t s = 0; s < tokens_.size(); ++s) {
      std::vector<std::int32_t>& tokens = tokens_[s];
      if (is_full) tokens.erase(tokens.begin(), tokens.end() - half());
      tokens.push_back(next_[s]);
      if (is_full) add_logits(decoder_.begin(static_cast<std::int64_t>(s), 1, tokens));
    }
  }

 private:
  std::size_t positions() const { return static_cast<std::size_t>(decoder_.positions()); }
  std::ptrdiff_t half() const { return static_cast<std::ptrdiff_t>(decoder_.positions() / 2); }
  std::size_t vocab() const { return static_cast<std::size_t>(decoder_.vocab()); }
  void add_logits(const std::vector<float>& rows) {
    logits_.insert(logits_.end(), rows.begin(), rows.end());
  }

  Decoder& decoder_;
  const SampleSpec& spec_;
  Sampler sampler_;
  std::int64_t first_;                             // sample
  std::vector<std::vector<std::int32_t>> tokens_;  // that the model sees, of each sample
  std::vector<bool> ended_;
  std::vector<std::int32_t> next_;  // drawn last, of each sample
  std::vector<float> logits_;       // (samples, V)
};

}  // namespace

std::int32_t first_token(std::int64_t vocab) {
  if (vocab > kGpt2EndOfText) return kGpt2EndOfText;
  return static_cast<std::int32_t>(std::min<std::int64_t>('\n', vocab - 1));
}

void generate(Decoder& decoder, const SampleSpec& spec,
              const std::function<void(std::int64_t, std::int32_t)>& emit) {
  for (std::int64_t first = 0; first < spec.samples; first += decoder.sequences()) {
    Group group(decoder, spec, first, std::min(decoder.sequences(), spec.samples - first));
    for (std::int64_t i = 0; i < spec.max_tokens && !is_stop_requested(); ++i) {
      if (i > 0) group.advance();
      if (!group.draw(i, emit)) break;
    }
  }
}

std::string numbers_text(const std::vector<std::int32_t>& tokens) {
  std::string text;
  for (const std::int32_t token : tokens) text += fmt::format("{} ", token);
  return text;
}

}  // namespace lathe
