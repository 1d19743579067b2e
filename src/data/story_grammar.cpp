#include "story_grammar.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "lathe/error.h"

namespace lathe {
namespace {

constexpr std::string_view kStories =
#include "../data/stories.grammar"
    ;

std::string_view trim(std::string_view text) {
  const std::size_t first = text.find_first_not_of(' ');
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

class Reader {
 public:
  Grammar read(std::string_view text) {
    while (!text.empty()) {
      ++line_number_;
      const std::size_t end = std::min(text.find('\n'), text.size());
      read_line(text.substr(0, end));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    finish();
    return std::move(grammar_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ExitCode::internal, fmt::format("grammar line {}: {}", line_number_, what));
  }

  // A rule starts in the first column; its alternatives follow on the same line or indented.
  void read_line(std::string_view line) {
    if (trim(line).empty() || line.front() == '#') return;
    if (line.front() != ' ') {
      const std::size_t colon = line.find(':');
      if (colon == std::string_view::npos) fail("expected 'name:'");
      open_rule(std::string(line.substr(0, colon)));
      line.remove_prefix(colon + 1);
      if (trim(line).empty()) return;
    }
    if (grammar_.rules.empty()) fail("an alternative before the first rule");
    while (true) {
      const std::size_t bar = line.find('|');
      read_alternative(trim(line.substr(0, bar)));
      if (bar == std::string_view::npos) return;
      line.remove_prefix(bar + 1);
    }
  }

  void open_rule(std::string name) {
    if (!rule_numbers_.emplace(name, grammar_.rules.size()).second) fail("a second rule " + name);
    grammar_.rules.push_back({.name = std::move(name), .alternatives = {}, .total_weight = 0});
  }

  void read_alternative(std::string_view text) {
    GrammarAlternative alternative{.symbols = {}, .weight = 1, .probability = 0};
    const std::size_t star = text.find(" * ");
    if (star != std::string_view::npos) {
      const char* end = text.data() + star;
      const auto [rest, error] = std::from_chars(text.data(), end, alternative.weight);
      if (error != std::errc() || rest != end || alternative.weight == 0) fail("a bad weight");
      text = trim(text.substr(star + 3));
    }
    while (!text.empty()) {
      const std::size_t end = text.front() == '{' ? text.find('}') : text.find('{') - 1;
      if (text.front() == '{' && end == std::string_view::npos) fail("'{' without '}'");
      add_symbol(alternative, text.substr(0, end == std::string_view::npos ? end : end + 1));
      text.remove_prefix(std::min(end, text.size() - 1) + 1);
    }
    if (alternative.symbols.empty()) fail("an empty alternative");
    GrammarRule& rule = grammar_.rules.back();
    rule.total_weight += alternative.weight;
    rule.alternatives.push_back(std::move(alternative));
  }

  void add_symbol(GrammarAlternative& alternative, std::string_view text) {
    if (text.front() == '{') {
      const std::string name(text.substr(1, text.size() - 2));
      uses_.push_back({name, line_number_, grammar_.rules.size() - 1,
                       grammar_.rules.back().alternatives.size(), alternative.symbols.size()});
      alternative.symbols.push_back({});
      return;
    }
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const bool line_end = text.substr(i, 2) == "\\n";
      plain += line_end ? '\n' : text[i];
      i += line_end;
    }
    alternative.symbols.push_back({.text = std::move(plain)});
  }

  // Rules may be used before they are written, so names are resolved last.
  void finish() {
    for (const Use& use : uses_) {
      line_number_ = use.line;
      const auto found = rule_numbers_.find(use.name);
      if (found == rule_numbers_.end()) fail("no rule " + use.name);
      grammar_.rules[use.rule].alternatives[use.alternative].symbols[use.symbol].rule =
          found->second;
    }
    for (GrammarRule& rule : grammar_.rules) {
      if (rule.alternatives.empty()) fail("no alternatives of " + rule.name);
      for (GrammarAlternative& alternative : rule.alternatives) {
        alternative.probability = static_cast<double>(alternative.weight) / rule.total_weight;
      }
    }
  }

  struct Use {
    std::string name;
    int line;
    std::size_t rule, alternative, symbol;
  };

  Grammar grammar_;
  std::map<std::string, std::size_t> rule_numbers_;
  std::vector<Use> uses_;
  int line_number_ = 0;
};

}  // namespace

Grammar parse_grammar(std::string_view text) {
  return Reader().read(text);
}

Grammar story_grammar() {
  return parse_grammar(kStories);
}

// A rule's expectation is linear in those of the rules it uses. Iterating from zero sums over
// derivations of growing depth, and what is left falls geometrically.
GrammarExpectation expectation(const Grammar& grammar) {
  std::vector<GrammarExpectation> values(grammar.rules.size(), {.nats = 0, .bytes = 0});
  for (double change = 1; change > 1e-12;) {
    change = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      GrammarExpectation next{.nats = 0, .bytes = 0};
      for (const GrammarAlternative& alternative : grammar.rules[i].alternatives) {
        double nats = -std::log(alternative.probability);
        double bytes = 0;
        for (const GrammarSymbol& symbol : alternative.symbols) {
          nats += symbol.is_text() ? 0.0 : values[symbol.rule].nats;
          bytes += symbol.is_text() ? static_cast<double>(symbol.text.size())
                                    : values[symbol.rule].bytes;
        }
        next.nats += alternative.probability * nats;
        next.bytes += alternative.probability * bytes;
      }
      change = std::max(change, (next.bytes - values[i].bytes) / next.bytes);
      values[i] = next;
    }
  }
  return values.front();
}

}  // namespace lathe
