#include "picture_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <string_view>
#include <vector>

namespace lathe::test {
namespace {

// Enough of XML for drawings.
class XmlChecker {
 public:
  explicit XmlChecker(std::string_view text) : text_(text) {}

  // Empty, or what is wrong.
  std::string check() {
    while (!text_.empty()) {
      const std::string problem = text_.front() == '<' ? tag() : content();
      if (!problem.empty()) return problem;
    }
    if (!open_.empty()) return "not closed: " + open_.back();
    return roots_ == 1 ? "" : fmt::format("{} roots", roots_);
  }

 private:
  static bool is_name(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == ':';
  }

  std::string_view take_name() {
    std::size_t end = 0;
    while (end < text_.size() && is_name(text_[end])) ++end;
    const std::string_view name = text_.substr(0, end);
    text_.remove_prefix(end);
    return name;
  }

  bool take(std::string_view expected) {
    if (!text_.starts_with(expected)) return false;
    text_.remove_prefix(expected.size());
    return true;
  }

  std::string tag() {
    if (take("</")) {
      const std::string name(take_name());
      if (open_.empty() || open_.back() != name || !take(">")) return "wrong end of " + name;
      open_.pop_back();
      return "";
    }
    text_.remove_prefix(1);
    const std::string name(take_name());
    if (name.empty()) return "a bare <";
    roots_ += open_.empty();
    while (take(" ")) {
      if (take_name().empty() || !take("=\"")) return "bad attribute of " + name;
      const std::size_t end = text_.find('"');
      if (end == std::string_view::npos) return "open attribute of " + name;
      if (const auto problem = characters(text_.substr(0, end)); !problem.empty()) return problem;
      text_.remove_prefix(end + 1);
    }
    if (take("/>")) return "";
    if (!take(">")) return "tag not closed: " + name;
    open_.push_back(name);
    return "";
  }

  std::string content() {
    const std::size_t end = std::min(text_.find('<'), text_.size());
    const std::string_view part = text_.substr(0, end);
    text_.remove_prefix(end);
    if (open_.empty() && part.find_first_not_of('\n') != std::string_view::npos) {
      return "text outside the root";
    }
    return characters(part);
  }

  static std::string characters(std::string_view part) {
    for (std::size_t i = 0; i < part.size(); ++i) {
      const auto c = static_cast<unsigned char>(part[i]);
      if (c == '<' || (c < 0x20 && c != '\n')) return fmt::format("character {:#x}", c);
      if (c != '&') continue;
      const std::string_view entity = part.substr(i, part.find(';', i) - i);
      if (entity != "&amp" && entity != "&lt" && entity != "&gt" && entity != "&quot") {
        return "unknown entity";
      }
    }
    return "";
  }

  std::string_view text_;
  std::vector<std::string> open_;
  int roots_ = 0;
};

}  // namespace

std::string xml_problem(const std::string& text) {
  return XmlChecker(text).check();
}

nlohmann::json page_data(const std::string& page) {
  const std::string begin = "<script id=\"data\" type=\"application/json\">";
  const std::size_t from = page.find(begin) + begin.size();
  return parse_json(page.substr(from, page.find("</script>", from) - from));
}

}  // namespace lathe::test
