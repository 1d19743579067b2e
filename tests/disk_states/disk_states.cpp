// Checks what Lathe makes of a disk's states; for scripts/soak/ and its short form in the tests:
//
//   disk_states power_loss TRACE ROOT STATES SEED SCRATCH SAMPLES COUNT
//   disk_states bit_flips CHECKPOINT PAYLOAD_FLIPS STRIDE SEED
//
// The last line is "passed N of M", and the exit code 0 when these are equal.
#include <fmt/format.h>

#include <exception>
#include <string>
#include <vector>

#include "bit_flips.h"
#include "file_trace.h"
#include "power_loss.h"

namespace lathe::test {
namespace {

int finish(std::int64_t passed, std::int64_t all,
           const std::map<std::string, std::int64_t>& problems) {
  for (const auto& [problem, count] : problems) fmt::print("FAILED {} times: {}\n", count, problem);
  fmt::print("passed {} of {}\n", passed, all);
  return passed == all && problems.empty() && all > 0 ? 0 : 1;
}

int power_loss(const std::vector<std::string>& arguments) {
  const PowerLossReport report =
      check_power_loss(read_trace(arguments.at(0)), {.root = arguments.at(1),
                                                     .states = std::stoll(arguments.at(2)),
                                                     .seed = std::stoull(arguments.at(3)),
                                                     .scratch = arguments.at(4),
                                                     .samples = arguments.at(5),
                                                     .sample_count = std::stoll(arguments.at(6))});
  fmt::print("{} calls, {} distinct states with a durable checkpoint, {} before the first\n",
             report.prefixes, report.checked, report.before_checkpoint);
  return finish(report.passed, report.checked, report.problems);
}

int bit_flips(const std::vector<std::string>& arguments) {
  const DamageReport report = check_damage({.checkpoint = arguments.at(0),
                                            .payload_flips = std::stoll(arguments.at(1)),
                                            .stride = std::stoll(arguments.at(2)),
                                            .seed = std::stoull(arguments.at(3))});
  for (const auto& [kind, count] : report.by_kind) fmt::print("{}: {}\n", kind, count);
  return finish(report.found, report.cases, report.problems);
}

}  // namespace
}  // namespace lathe::test

int main(int count, char** words) {
  try {
    const std::vector<std::string> arguments(words + 1, words + count);
    const std::vector<std::string> rest(arguments.begin() + 1, arguments.end());
    if (arguments.at(0) == "power_loss") return lathe::test::power_loss(rest);
    if (arguments.at(0) == "bit_flips") return lathe::test::bit_flips(rest);
    fmt::print(stderr, "disk_states: {}: must be power_loss or bit_flips\n", arguments[0]);
  } catch (const std::exception& error) {
    fmt::print(stderr, "disk_states: {}\n", error.what());
  }
  return 2;
}
