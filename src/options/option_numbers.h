// Numbers as people write them on a command line, converted exactly or not at all: decimal digits
// with an optional fraction, then an exponent or one of K, M, B. No sign (no option is negative),
// no nan, inf, hexadecimal, leading zeros, blanks or trailing characters.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

namespace lathe {

struct IntegerRange {
  std::int64_t least = 0;
  std::int64_t most = 1'000'000'000'000'000;
};

struct RealRange {
  double least = 0;
  double most = std::numeric_limits<double>::max();
  bool least_included = true;
  bool most_included = true;
};

// nullopt: not a number, not whole ("1.5", but "1.5K" is), or outside the range.
std::optional<std::int64_t> parse_integer(std::string_view text, const IntegerRange& range);

// The nearest double. nullopt: not a number, or outside the range.
std::optional<double> parse_real(std::string_view text, const RealRange& range);

std::string describe(const IntegerRange& range);  // "a whole number from 1 to 1000"
std::string describe(const RealRange& range);     // "a number above 0"

// The fewest digits that read back to the same double.
std::string shortest(double value);

}  // namespace lathe
