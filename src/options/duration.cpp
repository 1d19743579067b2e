#include <fmt/format.h>

#include <charconv>
#include <string_view>

#include "lathe/error.h"
#include "lathe/options.h"
#include "option_sources.h"

namespace lathe {
namespace {

constexpr std::string_view kUnits = "dhms";  // in the order in which they stand
constexpr double kSeconds[] = {86400, 3600, 60, 1};
constexpr double kMost = 1e9;

}  // namespace

double parse_duration(const std::string& option, const std::string& text) {
  const auto refuse = [&] {
    throw Error(ExitCode::usage,
                fmt::format("--{} {}: must be a time above 0, such as 3h55m, 90s or 1d12h "
                            "(d, h, m, s in this order), or a number of seconds",
                            option, on_one_line(text)));
  };
  double seconds = 0;
  std::size_t next_unit = 0;
  for (std::string_view left = text; !left.empty();) {
    double number = 0;
    const auto [end, error] =
        std::from_chars(left.data(), left.data() + left.size(), number, std::chars_format::fixed);
    const bool is_number = left.front() >= '0' && left.front() <= '9' && error == std::errc();
    if (!is_number) refuse();
    left.remove_prefix(static_cast<std::size_t>(end - left.data()));
    const bool is_plain = left.empty() && next_unit == 0;
    const std::size_t unit =
        is_plain ? kUnits.find('s') : kUnits.find(left.substr(0, 1), next_unit);
    if (left.empty() != is_plain || unit == kUnits.npos) refuse();
    seconds += number * kSeconds[unit];
    next_unit = unit + 1;
    if (!left.empty()) left.remove_prefix(1);
  }
  if (!(seconds > 0 && seconds <= kMost)) refuse();
  return seconds;
}

}  // namespace lathe
