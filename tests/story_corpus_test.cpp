#include "lathe/story_corpus.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <span>

#include "data/story_grammar.h"
#include "lathe/error.h"

namespace lathe {
namespace {

double sum(std::span<const float> values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

struct Story {
  std::string_view text;
  std::span<const float> nats;
};

std::vector<Story> split(const StoryCorpus& corpus) {
  std::vector<Story> stories;
  const std::string_view text = corpus.text;
  for (std::size_t begin = 0, end; begin < text.size(); begin = end) {
    end = text.find("\n\n", begin) + 2;
    stories.push_back({.text = text.substr(begin, end - begin),
                       .nats = std::span(corpus.nats).subspan(begin, end - begin)});
  }
  return stories;
}

// All derivations of all beginnings of a text, counted from the definition of a grammar: for every
// rule and place a table of where the rule's texts end, and in how many ways.
class DerivationCounter {
 public:
  DerivationCounter(const Grammar& grammar, std::string_view text)
      : grammar_(grammar), text_(text) {}

  std::int64_t count() { return ends(0, 0)[text_.size()]; }

 private:
  using Ends = std::map<std::size_t, std::int64_t>;

  Ends& ends(std::size_t rule, std::size_t begin) {
    const auto [known, is_new] = known_.try_emplace({rule, begin});
    if (!is_new) return known->second;
    Ends all;
    for (const GrammarAlternative& alternative : grammar_.rules[rule].alternatives) {
      Ends now = {{begin, 1}};
      for (const GrammarSymbol& symbol : alternative.symbols) now = advance(now, symbol);
      for (const auto& [end, ways] : now) all[end] += ways;
    }
    return known->second = all;
  }

  Ends advance(const Ends& from, const GrammarSymbol& symbol) {
    Ends to;
    for (const auto& [place, ways] : from) {
      if (!symbol.is_text()) {
        for (const auto& [end, more] : Ends(ends(symbol.rule, place))) to[end] += ways * more;
      } else if (text_.substr(place).starts_with(symbol.text)) {
        to[place + symbol.text.size()] += ways;
      }
    }
    return to;
  }

  const Grammar& grammar_;
  std::string_view text_;
  std::map<std::pair<std::size_t, std::size_t>, Ends> known_;
};

// Looks for a text of one alternative that begins a text of another, by walking both at once. What
// is left to walk on each side is a list of symbols; a use of the same rule at the front of both is
// dropped, since a rule that passes this check itself has no text that begins another of its texts.
class PrefixSearch {
 public:
  explicit PrefixSearch(const Grammar& grammar) : grammar_(grammar) {}

  bool comparable(const GrammarAlternative& a, const GrammarAlternative& b) {
    return walk({a.symbols.begin(), a.symbols.end()}, {b.symbols.begin(), b.symbols.end()});
  }

 private:
  using Symbols = std::deque<GrammarSymbol>;

  bool walk(Symbols a, Symbols b) {
    while (!a.empty() && !b.empty()) {
      if (a.front().is_text() && b.front().is_text()) {
        const std::size_t length = std::min(a.front().text.size(), b.front().text.size());
        if (a.front().text.substr(0, length) != b.front().text.substr(0, length)) return false;
        take(a, length);
        take(b, length);
      } else if (a.front().rule == b.front().rule) {
        a.pop_front();
        b.pop_front();
      } else {
        if (!seen_.insert(name(a) + "\n" + name(b)).second) return false;
        return a.front().is_text() ? expand(b, a) : expand(a, b);
      }
    }
    return true;
  }

  bool expand(const Symbols& a, const Symbols& b) {
    for (const GrammarAlternative& alternative : grammar_.rules[a.front().rule].alternatives) {
      Symbols expanded(a.begin() + 1, a.end());
      expanded.insert(expanded.begin(), alternative.symbols.begin(), alternative.symbols.end());
      if (walk(expanded, b)) return true;
    }
    return false;
  }

  static void take(Symbols& symbols, std::size_t bytes) {
    symbols.front().text.erase(0, bytes);
    if (symbols.front().text.empty()) symbols.pop_front();
  }

  std::string name(const Symbols& symbols) const {
    std::string text;
    for (const GrammarSymbol& s : symbols) {
      text += s.is_text() ? s.text : fmt::format("{{{}}}", grammar_.rules[s.rule].name);
    }
    return text;
  }

  const Grammar& grammar_;
  std::set<std::string> seen_;  // pairs that are being walked, or led nowhere
};

// The rules in which a text of one alternative begins a text of another.
std::vector<std::string> unclear_rules(const Grammar& grammar) {
  std::vector<std::string> unclear;
  for (const GrammarRule& rule : grammar.rules) {
    bool found = false;
    for (std::size_t i = 0; i < rule.alternatives.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        found |= PrefixSearch(grammar).comparable(rule.alternatives[i], rule.alternatives[j]);
      }
    }
    if (found) unclear.push_back(rule.name);
  }
  return unclear;
}

TEST(StoryGrammar, NoAlternativeBeginsAnother) {
  EXPECT_EQ(unclear_rules(story_grammar()), std::vector<std::string>{});
}

TEST(StoryGrammar, PrefixSearchSeesWhatItLooksFor) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(unclear_rules(parse_grammar("a: hen | fox")), Names{});
  EXPECT_EQ(unclear_rules(parse_grammar("a: hen | hens")), Names{"a"});
  EXPECT_EQ(unclear_rules(parse_grammar("a: {b}s | {b}\nb: hen | fox")), Names{"a"});
  EXPECT_EQ(unclear_rules(parse_grammar("a: {b} x | {c} y\nb: hen | fox\nc: owl | hen")), Names{});
  EXPECT_EQ(unclear_rules(parse_grammar("a: {b} x | {c}\nb: hen | fox\nc: owl | hen")), Names{"a"});
  // Both sides run on for ever: no text ends, so none begins another.
  EXPECT_EQ(unclear_rules(parse_grammar("a: {b} | {c}\nb: x{b}\nc: x{c}")), Names{});
}

TEST(StoryGrammar, ProbabilitiesOfARuleAddUpToOne) {
  const Grammar grammar = story_grammar();
  ASSERT_GT(grammar.rules.size(), 20u);
  for (const GrammarRule& rule : grammar.rules) {
    double total = 0;
    for (const GrammarAlternative& alternative : rule.alternatives) {
      EXPECT_GT(alternative.probability, 0) << rule.name;
      total += alternative.probability;
    }
    EXPECT_NEAR(total, 1, 1e-14) << rule.name;  // rounding of some ten quotients
  }
}

TEST(StoryGrammar, WeightsAndEscapesAreRead) {
  const Grammar grammar = parse_grammar("# note\na: 3 * x {b}\\n | y\n\n  z z\nb: 2 * 3\n");
  ASSERT_EQ(grammar.rules.size(), 2u);
  const auto& alternatives = grammar.rules[0].alternatives;
  ASSERT_EQ(alternatives.size(), 3u);
  EXPECT_DOUBLE_EQ(alternatives[0].probability, 0.6);
  ASSERT_EQ(alternatives[0].symbols.size(), 3u);
  EXPECT_EQ(alternatives[0].symbols[0].text, "x ");
  EXPECT_EQ(alternatives[0].symbols[1].rule, 1u);
  EXPECT_EQ(alternatives[0].symbols[2].text, "\n");
  EXPECT_EQ(alternatives[2].symbols[0].text, "z z");
}

TEST(StoryGrammar, MistakesNameTheirLine) {
  for (const char* text :
       {"a: x\nb: {c}", "a: x\n  y |", "a: x\na: y", "a: x\n0 * y", "a: x\nb: {a", "a: x\n\nb:"}) {
    try {
      parse_grammar(text);
      ADD_FAILURE() << "accepted: " << text;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("grammar line "), std::string::npos) << error.what();
    }
  }
}

// One floating-point rounding for each value, some 1e-7 of it.
constexpr double kRounding = 1e-6;

TEST(StoryCorpus, ParsingGivesTheProbabilityThatWritingGave) {
  const StoryCorpus corpus = make_story_corpus(3, 200'000);
  ASSERT_EQ(corpus.nats.size(), corpus.text.size());
  const double nats = sum(corpus.nats);
  EXPECT_NEAR(-story_log_probability(corpus.text), nats, kRounding * nats);
  for (const Story& story : split(corpus)) {
    const double expected = sum(story.nats);
    ASSERT_NEAR(-story_log_probability(story.text), expected, kRounding * expected) << story.text;
  }
}

TEST(StoryCorpus, EveryStoryHasOneDerivation) {
  const Grammar grammar = story_grammar();
  const StoryCorpus corpus = make_story_corpus(4, 60'000);
  for (const Story& story : split(corpus)) {
    ASSERT_EQ(DerivationCounter(grammar, story.text).count(), 1) << story.text;
  }
}

TEST(DerivationCounter, CountsAmbiguity) {
  const Grammar grammar = parse_grammar("s: {a} | {a}{a}\na: x | xx");
  EXPECT_EQ(DerivationCounter(grammar, "xx").count(), 2);
  EXPECT_EQ(DerivationCounter(grammar, "xxx").count(), 2);
  EXPECT_EQ(DerivationCounter(grammar, "xxxxx").count(), 0);
}

TEST(StoryCorpus, TextsOutsideTheGrammarHaveNoProbability) {
  const std::string text = make_story_corpus(5, 1).text;
  EXPECT_TRUE(std::isfinite(story_log_probability(text)));
  EXPECT_EQ(story_log_probability(""), 0);
  std::string changed = text;
  changed[text.size() / 2] = '~';
  for (const std::string& other :
       {changed, text + "x", text.substr(1), text.substr(0, text.size() - 1), std::string("\n"),
        "\n" + text}) {
    EXPECT_EQ(story_log_probability(other), -HUGE_VAL) << other;
  }
}

TEST(StoryCorpus, EntropyFollowsFromTheGrammar) {
  const StoryCorpus corpus = make_story_corpus(6, 1'000'000);
  const GrammarExpectation expected = expectation(story_grammar());
  const double rate = expected.nats / expected.bytes;
  EXPECT_GE(rate, 0.4);
  // Stories are independent, and nats - rate * bytes of one has mean 0.
  const std::vector<Story> stories = split(corpus);
  const auto count = static_cast<double>(stories.size());
  double difference = 0, squares = 0, bytes = 0, byte_squares = 0;
  for (const Story& story : stories) {
    const auto size = static_cast<double>(story.text.size());
    const double excess = sum(story.nats) - rate * size;
    difference += excess;
    squares += excess * excess;
    bytes += size;
    byte_squares += size * size;
  }
  EXPECT_LT(std::abs(difference), 3 * std::sqrt(squares));
  const double mean = bytes / count;
  EXPECT_LT(std::abs(mean - expected.bytes),
            3 * std::sqrt((byte_squares / count - mean * mean) / count));
  // The rate is known to a fraction that makes the comparison above worth something.
  EXPECT_LT(std::sqrt(squares) / bytes, 0.005 * rate);
}

TEST(StoryCorpus, ExpectationOfAGrammarDoneByHand) {
  // "x" n times and "." with probability 2^-n / 2: one bit a byte.
  const GrammarExpectation expected = expectation(parse_grammar("s: x{s} | ."));
  EXPECT_NEAR(expected.bytes, 2, 1e-9);
  EXPECT_NEAR(expected.nats, 2 * std::log(2), 1e-9);
}

TEST(StoryCorpus, IsPlainTextOfWholeStories) {
  const StoryCorpus corpus = make_story_corpus(7, 100'000);
  EXPECT_GE(corpus.text.size(), 100'000u);
  EXPECT_LT(corpus.text.size(), 110'000u);
  EXPECT_TRUE(corpus.text.ends_with(".\n\n"));
  for (const char c : corpus.text) ASSERT_TRUE(c == '\n' || (c >= ' ' && c <= '~')) << int{c};
  for (const Story& story : split(corpus)) {
    ASSERT_TRUE(std::isupper(static_cast<unsigned char>(story.text.front()))) << story.text;
    ASSERT_EQ(story.text.find('\n'), story.text.size() - 2) << story.text;
    ASSERT_EQ(story.text.find("  "), std::string_view::npos) << story.text;
  }
}

TEST(StoryCorpus, ASeedDecidesTheTextAndLongerOnesGoOn) {
  const std::string text = make_story_corpus(8, 50'000).text;
  EXPECT_EQ(make_story_corpus(8, 50'000).text, text);
  EXPECT_TRUE(make_story_corpus(8, 80'000).text.starts_with(text));
  EXPECT_NE(make_story_corpus(9, 50'000).text.substr(0, 1000), text.substr(0, 1000));
}

// Losses on the embedded corpus compare between versions and machines as long as this holds.
TEST(StoryCorpus, TextIsFrozen) {
  std::uint64_t hash = 0xCBF29CE484222325;  // FNV-1a
  for (const char c : make_story_corpus(1, 900'000).text) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  }
  EXPECT_EQ(hash, 0x414789DE35C73161u) << fmt::format("{:#x}", hash);
}

}  // namespace
}  // namespace lathe
