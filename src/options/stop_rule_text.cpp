#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "lathe/error.h"
#include "lathe/stop_rules.h"
#include "option_sources.h"
#include "suggest.h"

namespace lathe {
namespace {

[[noreturn]] void refuse(const std::string& text, const std::string& why) {
  throw Error(ExitCode::usage, fmt::format("--stop-if {}: {}", on_one_line(text), why));
}

StopMetric parse_metric(const std::string& text, std::string_view name) {
  const auto* found = std::ranges::find(kStopMetrics, name);
  if (found != kStopMetrics.end()) return static_cast<StopMetric>(found - kStopMetrics.begin());
  const std::vector<std::string> known(kStopMetrics.begin(), kStopMetrics.end());
  const auto suggestion = closest(name, known);
  refuse(text, fmt::format("{} is no metric{}; must be one of {}", on_one_line(name),
                           suggestion ? fmt::format(", did you mean {}?", *suggestion) : "",
                           fmt::join(kStopMetrics, ", ")));
}

}  // namespace

StopRule parse_stop_rule(const std::string& text) {
  std::string rule = text;
  std::erase(rule, ' ');
  const std::size_t sign = rule.find_first_of("<>");
  if (sign == rule.npos) {
    refuse(text, "must be METRIC>VALUE or METRIC<VALUE, with @STEP behind it or not");
  }
  const StopMetric metric = parse_metric(text, rule.substr(0, sign));
  const std::size_t at = std::min(rule.find('@', sign), rule.size());
  const std::string value_text = rule.substr(sign + 1, at - sign - 1);
  const auto value = parse_real(value_text, {});
  if (!value) {
    refuse(text, fmt::format("{} is no value; must be {}", on_one_line(value_text),
                             describe(RealRange())));
  }
  std::int64_t first_step = 0;
  if (at < rule.size()) {
    const IntegerRange steps = {.least = 1};
    const auto step = parse_integer(std::string_view(rule).substr(at + 1), steps);
    if (!step) {
      refuse(text, fmt::format("{} is no step; must be {}", on_one_line(rule.substr(at + 1)),
                               describe(steps)));
    }
    first_step = *step;
  }
  return {.metric = metric,
          .above = rule[sign] == '>',
          .value = *value,
          .first_step = first_step,
          .text = text};
}

}  // namespace lathe
