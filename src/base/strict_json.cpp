#include "strict_json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

namespace lathe {

using nlohmann::json;

nlohmann::json parse_json(std::string_view text, const std::string& source, ExitCode code) {
  constexpr int kMaxDepth = 8;
  std::vector<std::set<std::string>> keys;  // of each object that is open
  const auto inspect = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > kMaxDepth) {
      throw Error(code, fmt::format("{}: JSON nested deeper than {} levels", source, kMaxDepth));
    }
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second) {
        throw Error(code, fmt::format("{}: key {} stands twice", source, quote(key)));
      }
    }
    return true;
  };
  // The parser takes a zero byte for the end of the text and would not see what follows.
  if (const std::size_t zero = text.find('\0'); zero != text.npos) {
    throw Error(code, fmt::format("{}: not valid JSON at byte {}", source, zero + 1));
  }
  try {
    return json::parse(text, inspect);
  } catch (const json::parse_error& error) {
    throw Error(code, fmt::format("{}: not valid JSON at byte {}", source, error.byte));
  } catch (const json::exception&) {
    throw Error(code, fmt::format("{}: holds a number out of range", source));
  }
}

std::string quote(std::string_view text) {
  constexpr std::size_t kMost = 60;
  return fmt::format("\"{}\"{}", printable(text.substr(0, kMost)),
                     text.size() > kMost ? "..." : "");
}

// JSON's escapes, since whoever looks at these files knows them.
std::string printable(std::string_view text) {
  constexpr bool kAsciiOnly = true;
  const std::string quoted =
      json(std::string(text)).dump(-1, ' ', kAsciiOnly, json::error_handler_t::replace);
  return quoted.substr(1, quoted.size() - 2);
}

}  // namespace lathe
