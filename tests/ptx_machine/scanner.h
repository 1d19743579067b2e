// The first step of reading PTX: text to statements.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lathe::ptx {

struct Statement {
  enum class Kind { open, close, label, text };
  Kind kind;
  std::string text;  // without comments, terminator and needless white space
  int line;
};

std::vector<Statement> scan(std::string_view ptx);

// Parts between separators that stand outside brackets, without spaces around them.
std::vector<std::string> split(std::string_view text, char separator);

std::string trim(std::string_view text);

// Words between spaces.
std::vector<std::string> words(std::string_view text);

}  // namespace lathe::ptx
