#include "lathe/story_corpus.h"

#include <cmath>
#include <limits>
#include <optional>

#include "lathe/random.h"
#include "story_grammar.h"

namespace lathe {
namespace {

constexpr std::size_t kStart = 0;  // the grammar's first rule

// Draws stories one after the other, one random number per choice.
class Writer {
 public:
  Writer(const Grammar& grammar, std::uint64_t seed)
      : grammar_(grammar), key_{.seed = seed, .stream = RandomStream::corpus, .substream = 0} {}

  void write_story(StoryCorpus& corpus) {
    double undecided = 0;  // nats of the choices made since the last byte
    const GrammarSymbol start{.text = {}, .rule = kStart};
    std::vector<const GrammarSymbol*> to_write = {&start};
    while (!to_write.empty()) {
      const GrammarSymbol& symbol = *to_write.back();
      to_write.pop_back();
      if (symbol.is_text()) {
        corpus.text += symbol.text;
        corpus.nats.resize(corpus.text.size(), 0.0f);
        corpus.nats[corpus.text.size() - symbol.text.size()] = static_cast<float>(undecided);
        undecided = 0;
        continue;
      }
      const GrammarAlternative& alternative = choose(grammar_.rules[symbol.rule]);
      undecided -= std::log(alternative.probability);
      for (auto it = alternative.symbols.rbegin(); it != alternative.symbols.rend(); ++it) {
        to_write.push_back(&*it);
      }
    }
  }

 private:
  // Integers only, so every machine draws the same. Probabilities are off by less than 1e-7.
  const GrammarAlternative& choose(const GrammarRule& rule) {
    const std::uint64_t random = philox(key_, choices_++)[0];
    auto rest = static_cast<std::uint32_t>(random * rule.total_weight >> 32);
    for (const GrammarAlternative& alternative : rule.alternatives) {
      if (rest < alternative.weight) return alternative;
      rest -= alternative.weight;
    }
    return rule.alternatives.back();  // not reached: the weights add up to total_weight
  }

  const Grammar& grammar_;
  RandomKey key_;
  std::uint64_t choices_ = 0;
};

// Follows every derivation that agrees with the text so far. Alternatives differ early (see the
// head of data/stories.grammar), so there are never many, and one at most reaches the end.
class StoryReader {
 public:
  explicit StoryReader(const Grammar& grammar) : grammar_(grammar) {}

  struct Story {
    std::size_t bytes;
    double log_probability;
  };

  // The story that `text` begins with.
  std::optional<Story> read(std::string_view text) {
    const GrammarSymbol start{.text = {}, .rule = kStart};
    expected_.assign(1, {.symbol = &start, .next = kNothing});
    std::vector<Derivation> open = {{.expected = 0, .story = {.bytes = 0, .log_probability = 0}}};
    while (!open.empty()) {
      Derivation now = open.back();
      open.pop_back();
      if (now.expected == kNothing) return now.story;
      const auto [symbol, next] = expected_[now.expected];
      now.expected = next;
      if (!symbol->is_text()) {
        for (const auto& alternative : grammar_.rules[symbol->rule].alternatives) {
          open.push_back(derive(now, alternative));
        }
      } else if (text.substr(now.story.bytes).starts_with(symbol->text)) {
        now.story.bytes += symbol->text.size();
        open.push_back(now);
      }
    }
    return std::nullopt;
  }

 private:
  static constexpr std::size_t kNothing = ~std::size_t{0};

  // What must still follow is a list that derivations share from some place on.
  struct Expected {
    const GrammarSymbol* symbol;
    std::size_t next;
  };
  struct Derivation {
    std::size_t expected;
    Story story;
  };

  Derivation derive(Derivation from, const GrammarAlternative& alternative) {
    for (auto it = alternative.symbols.rbegin(); it != alternative.symbols.rend(); ++it) {
      expected_.push_back({.symbol = &*it, .next = from.expected});
      from.expected = expected_.size() - 1;
    }
    from.story.log_probability += std::log(alternative.probability);
    return from;
  }

  const Grammar& grammar_;
  std::vector<Expected> expected_;
};

}  // namespace

StoryCorpus make_story_corpus(std::uint64_t seed, std::int64_t bytes) {
  const Grammar grammar = story_grammar();
  Writer writer(grammar, seed);
  StoryCorpus corpus;
  while (static_cast<std::int64_t>(corpus.text.size()) < bytes) writer.write_story(corpus);
  return corpus;
}

double story_log_probability(std::string_view text) {
  const Grammar grammar = story_grammar();
  StoryReader reader(grammar);
  double log_probability = 0;
  while (!text.empty()) {
    const auto story = reader.read(text);
    if (!story) return -std::numeric_limits<double>::infinity();
    log_probability += story->log_probability;
    text.remove_prefix(story->bytes);
  }
  return log_probability;
}

}  // namespace lathe
