// A probabilistic context-free grammar read from text. The language is explained at the head of
// data/stories.grammar.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

// Either literal text or the use of a rule.
struct GrammarSymbol {
  static constexpr std::size_t kNoRule = ~std::size_t{0};
  std::string text;
  std::size_t rule = kNoRule;
  bool is_text() const { return rule == kNoRule; }
};

struct GrammarAlternative {
  std::vector<GrammarSymbol> symbols;  // not empty, and no text in it is empty
  std::uint32_t weight;                // at least 1
  double probability;                  // weight / the rule's total weight
};

struct GrammarRule {
  std::string name;
  std::vector<GrammarAlternative> alternatives;  // at least one
  std::uint32_t total_weight;
};

struct Grammar {
  std::vector<GrammarRule> rules;  // generation starts at the first
};

// Throws Error(internal) naming the line: a grammar is part of the program.
Grammar parse_grammar(std::string_view text);

// The grammar of data/stories.grammar.
Grammar story_grammar();

// Expected nats and bytes of one text of the grammar; their ratio is the entropy rate of a long
// run of texts.
struct GrammarExpectation {
  double nats;
  double bytes;
};
GrammarExpectation expectation(const Grammar& grammar);

}  // namespace lathe
