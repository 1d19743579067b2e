#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/strict_json.h"
#include "lathe/error.h"
#include "option_sources.h"
#include "tokenizer/utf8.h"

namespace lathe {
namespace {

bool is_choice(std::string_view text, std::string_view choices) {
  while (true) {
    const std::size_t bar = choices.find('|');
    if (text == choices.substr(0, bar)) return true;
    if (bar == std::string_view::npos) return false;
    choices.remove_prefix(bar + 1);
  }
}

std::string list_of(std::string_view choices) {
  std::string list(choices);
  for (std::size_t at; (at = list.find('|')) != std::string::npos;) list.replace(at, 1, ", ");
  return choices.size() == list.size() ? list : "one of " + list;
}

// Stores a setting in a member of each type.
class Assigner {
 public:
  Assigner(Options& options, const Setting& setting)
      : options_(options), setting_(setting), option_(*setting.option) {}

  void operator()(std::string Options::*member) { options_.*member = checked_text(); }
  void operator()(std::optional<std::string> Options::*member) { options_.*member = text(); }
  void operator()(std::int64_t Options::*member) { options_.*member = integer(); }
  void operator()(std::uint64_t Options::*member) {
    options_.*member = static_cast<std::uint64_t>(integer());
  }
  void operator()(double Options::*member) {
    const auto value = parse_real(text(), option_.reals);
    if (!value) refuse(text(), describe(option_.reals));
    options_.*member = *value;
  }
  void operator()(bool Options::*member) {
    const bool is_true = text() == "true" || text() == "1";
    if (!is_true && text() != "false" && text() != "0") refuse(text(), "true or false");
    options_.*member = is_true;
  }
  void operator()(std::vector<std::string> Options::*member) {
    for (const std::string& value : setting_.values) check_text(value);
    options_.*member = setting_.values;
  }

 private:
  const std::string& text() const { return setting_.values.front(); }

  [[noreturn]] void refuse(std::string_view value, std::string_view right) const {
    throw Error(ExitCode::usage,
                fmt::format("{} {}: must be {}", setting_.origin, on_one_line(value), right));
  }

  std::int64_t integer() const {
    const std::string_view word = option_.word;
    if (!word.empty() && text() == word) return kWord;
    const auto value = parse_integer(text(), option_.integers);
    const std::string range = describe(option_.integers);
    if (!value) refuse(text(), word.empty() ? range : fmt::format("{}, or {}", range, word));
    return *value;
  }

  void check_text(std::string_view value) const {
    if (value.empty() && option_.member != OptionMember(&Options::prompt)) {
      refuse(value, fmt::format("{}, not empty", option_.value));
    }
    const bool is_saved = option_.on_resume != OnResume::never_saved;  // in a TOML file
    if (is_saved && !is_utf8(value)) refuse(value, "UTF-8");
  }

  const std::string& checked_text() const {
    if (option_.choices.empty()) {
      check_text(text());
    } else if (!is_choice(text(), option_.choices)) {
      refuse(text(), list_of(option_.choices));
    }
    return text();
  }

  Options& options_;
  const Setting& setting_;
  const OptionSpec& option_;
};

// What a member's value looks like.
class Printer {
 public:
  Printer(const Options& options, const OptionSpec& option) : options_(options), option_(option) {}

  std::string operator()(std::string Options::*member) const { return options_.*member; }
  std::string operator()(std::optional<std::string> Options::*member) const {
    return (options_.*member).value_or("");
  }
  std::string operator()(std::int64_t Options::*member) const {
    const std::int64_t value = options_.*member;
    if (!option_.word.empty() && value == kWord) return std::string(option_.word);
    return value < option_.integers.least ? "" : std::to_string(value);
  }
  std::string operator()(std::uint64_t Options::*member) const {
    return std::to_string(options_.*member);
  }
  std::string operator()(double Options::*member) const {
    const double value = options_.*member;
    const RealRange& range = option_.reals;
    const bool is_unset = value < range.least || (value == range.least && !range.least_included);
    return is_unset ? "" : shortest(value);
  }
  std::string operator()(bool Options::*member) const {
    return options_.*member ? "true" : "false";
  }
  std::string operator()(std::vector<std::string> Options::*member) const {
    return fmt::format("{}", fmt::join(options_.*member, " "));
  }

 private:
  const Options& options_;
  const OptionSpec& option_;
};

}  // namespace

void apply(Options& options, const Setting& setting) {
  std::visit(Assigner(options, setting), setting.option->member);
}

std::string on_one_line(std::string_view text) {
  constexpr std::size_t kMost = 200;
  if (text.empty()) return "''";
  return printable(text.substr(0, kMost)) + (text.size() > kMost ? "..." : "");
}

std::string value_text(const Options& options, const OptionSpec& option) {
  return std::visit(Printer(options, option), option.member);
}

}  // namespace lathe
