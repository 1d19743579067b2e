#include "run_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "lathe/error.h"
#include "option_sources.h"
#include "suggest.h"

namespace lathe {
namespace {

constexpr std::size_t kMostBytes = 255;  // of a file's name, on all usual file systems

// What makes a run what it is, and not where it lies or how it is started this time: so a command
// that resumes a run finds the name that it began with.
bool can_be_in_name(const OptionSpec& option) {
  return option.taken_by(Command::train) && option.on_resume != OnResume::never_saved;
}

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
}

bool is_plain(char c) {
  return ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z') || ('0' <= c && c <= '9') ||
         std::string_view("._+-=").find(c) != std::string_view::npos;
}

std::string file_name_part(std::string_view value) {
  std::string part;
  bool was_plain = true;
  for (const char c : value) {
    if (is_plain(c)) {
      part += c;
    } else if (was_plain) {
      part += '-';
    }
    was_plain = is_plain(c);
  }
  return part;
}

class NameMaker {
 public:
  NameMaker(const std::string& name_template, const Options& options)
      : template_(name_template), options_(options) {}

  std::string make() {
    std::string name;
    for (rest_ = template_; !rest_.empty();) {
      const char c = rest_.front();
      if (rest_.starts_with("{{") || rest_.starts_with("}}")) {
        name += c;
        rest_.remove_prefix(2);
      } else if (c == '{') {
        name += file_name_part(take_value());
      } else {
        check_literal(c);
        name += c;
        rest_.remove_prefix(1);
      }
    }
    if (name.empty() || name == "." || name == "..") {
      refuse(fmt::format("makes the name '{}', which no folder can have", name));
    }
    if (name.size() > kMostBytes) {
      refuse(fmt::format("makes a name of {} bytes; a folder's has at most {}", name.size(),
                         kMostBytes));
    }
    return name;
  }

 private:
  [[noreturn]] void refuse(std::string_view why) const {
    throw Error(ExitCode::usage, fmt::format("--name {}: {}", on_one_line(template_), why));
  }

  void check_literal(char c) const {
    if (c == '/') refuse("a name is one folder, without /; --out says where it lies");
    if (c == '}') refuse("a } without its {; }} stands for a brace");
    if (is_control(c)) refuse("holds a control character");
  }

  std::string take_value() {
    const std::size_t end = rest_.find('}');
    if (end == std::string_view::npos) refuse("a { without its }; {{ stands for a brace");
    const std::string_view key = rest_.substr(1, end - 1);
    rest_.remove_prefix(end + 1);
    const OptionSpec* option = find_option(key);
    if (option == nullptr) refuse_key(key);
    if (!can_be_in_name(*option)) {
      refuse(fmt::format("{{{}}} is nothing that a run keeps in its config.toml", key));
    }
    const std::string value = value_text(options_, *option);
    if (value.empty()) refuse(fmt::format("--{} has no value to stand in a name; give one", key));
    return value;
  }

  [[noreturn]] void refuse_key(std::string_view key) const {
    std::vector<std::string> known;
    for (const OptionSpec& option : option_table()) {
      if (can_be_in_name(option)) known.emplace_back(option.name);
    }
    const auto suggestion = closest(key, known);
    refuse(fmt::format("{{{}}} is no option{}", on_one_line(key),
                       suggestion ? fmt::format("; did you mean {{{}}}?", *suggestion)
                                  : "; see lathe train --help"));
  }

  const std::string& template_;
  const Options& options_;
  std::string_view rest_;  // of the template
};

}  // namespace

std::string run_name(const std::string& name_template, const Options& options) {
  return NameMaker(name_template, options).make();
}

}  // namespace lathe
