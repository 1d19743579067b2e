#include "scanner.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "program.h"

namespace lathe::ptx {
namespace {

bool is_space(char c) {
  return std::isspace(static_cast<unsigned char>(c)) != 0;
}

bool is_name_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$' || c == '%';
}

// Comments become spaces, so that places stay what they were.
std::string without_comments(std::string_view ptx) {
  std::string text(ptx);
  const auto blank = [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      if (text[i] != '\n') text[i] = ' ';
    }
  };
  const auto end_of = [&](std::string_view what, std::size_t from) {
    const std::size_t found = text.find(what, from);
    return found == std::string::npos ? text.size() : found;
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') {
      i = end_of("\"", i + 1);
    } else if (text.compare(i, 2, "//") == 0) {
      blank(i, end_of("\n", i));
    } else if (text.compare(i, 2, "/*") == 0) {
      blank(i, std::min(end_of("*/", i + 2) + 2, text.size()));
    }
  }
  return text;
}

std::string single_spaced(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (!is_space(c)) out += c;
    if (is_space(c) && !out.empty() && out.back() != ' ') out += ' ';
  }
  return trim(out);
}

class Scanner {
 public:
  explicit Scanner(std::string_view ptx) : text_(without_comments(ptx)) {}

  std::vector<Statement> run() {
    while (skip_space(), at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '{' || c == '}') {
        ++at_;
        add(c == '{' ? Statement::Kind::open : Statement::Kind::close, "", line_);
      } else if (starts_with_word(".section")) {
        take_until([](std::string_view, char next) { return next == '}'; });  // debug information
      } else if (ends_at_newline()) {
        const int line = line_;
        add(Statement::Kind::text, take_until([](auto, char next) { return next == '\n'; }), line);
      } else if (!take_label()) {
        take_statement();
      }
    }
    return std::move(statements_);
  }

 private:
  void add(Statement::Kind kind, std::string_view text, int line) {
    statements_.push_back({kind, single_spaced(text), line});
  }

  void skip_space() {
    for (; at_ < text_.size() && is_space(text_[at_]); ++at_) line_ += text_[at_] == '\n';
  }

  bool starts_with_word(std::string_view word) const {
    return text_.compare(at_, word.size(), word) == 0 && at_ + word.size() < text_.size() &&
           !is_name_character(text_[at_ + word.size()]);
  }

  bool ends_at_newline() const {
    static constexpr std::array kDirectives = {".version", ".target", ".address_size", ".file",
                                               ".loc"};
    return std::any_of(kDirectives.begin(), kDirectives.end(),
                       [&](std::string_view word) { return starts_with_word(word); });
  }

  // The text up to where end(text so far, next character) holds; that character is passed over.
  template <class End>
  std::string_view take_until(const End& end) {
    const std::size_t begin = at_;
    while (at_ < text_.size() &&
           !end(std::string_view(text_).substr(begin, at_ - begin), text_[at_]))
      line_ += text_[at_++] == '\n';
    const std::string_view taken = std::string_view(text_).substr(begin, at_ - begin);
    if (at_ < text_.size()) line_ += text_[at_++] == '\n';
    return taken;
  }

  bool take_label() {
    std::size_t end = at_;
    while (end < text_.size() && is_name_character(text_[end])) ++end;
    if (end == at_ || end >= text_.size() || text_[end] != ':') return false;
    add(Statement::Kind::label, std::string_view(text_).substr(at_, end - at_), line_);
    at_ = end + 1;
    return true;
  }

  // To the semicolon, or to the brace of a function's body.
  void take_statement() {
    const int line = line_;
    int depth = 0;
    bool body = false;
    const std::string_view taken = take_until([&](std::string_view before, char next) {
      if (next == ';' && depth == 0) return true;
      body = next == '{' && depth == 0 && before.front() == '.' &&
             (before.find(".entry") != before.npos || before.find(".func") != before.npos);
      if (next == '{') ++depth;
      if (next == '}') --depth;
      return body;
    });
    add(Statement::Kind::text, taken, line);
    if (body) add(Statement::Kind::open, "", line_);
  }

  std::string text_;
  std::size_t at_ = 0;
  int line_ = 1;
  std::vector<Statement> statements_;
};

}  // namespace

std::vector<Statement> scan(std::string_view ptx) {
  return Scanner(ptx).run();
}

std::string trim(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return std::string(text);
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  int depth = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    const char c = i < text.size() ? text[i] : separator;
    if (c == '{' || c == '[' || c == '(') ++depth;
    if (c == '}' || c == ']' || c == ')') --depth;
    if (c != separator || (depth != 0 && i < text.size())) continue;
    parts.push_back(trim(text.substr(begin, i - begin)));
    begin = i + 1;
  }
  if (parts.size() == 1 && parts.front().empty()) parts.clear();
  return parts;
}

std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> found;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t end = std::min(text.find(' ', i), text.size());
    if (end > i) found.emplace_back(text.substr(i, end - i));
    i = end + 1;
  }
  return found;
}

}  // namespace lathe::ptx
