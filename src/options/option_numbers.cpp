#include "option_numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace lathe {
namespace {

// digits * 10^exponent, digits without leading zeros (empty for zero).
struct Decimal {
  std::string digits;
  int exponent = 0;
};

std::size_t leading_digits(std::string_view text) {
  return std::min(text.find_first_not_of("0123456789"), text.size());
}

std::optional<int> exponent_of_suffix(std::string_view text) {
  if (text.empty()) return 0;
  if (text == "K" || text == "k") return 3;
  if (text == "M") return 6;
  if (text == "B") return 9;
  if (text.front() != 'e' && text.front() != 'E') return std::nullopt;
  text.remove_prefix(1);
  if (text.starts_with('+') && leading_digits(text.substr(1)) > 0) text.remove_prefix(1);
  int exponent = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), exponent);
  if (error != std::errc() || end != text.data() + text.size() || std::abs(exponent) > 10'000) {
    return std::nullopt;
  }
  return exponent;
}

std::optional<Decimal> parse_decimal(std::string_view text) {
  const std::string_view whole = text.substr(0, leading_digits(text));
  text.remove_prefix(whole.size());
  std::string_view fraction;
  if (!text.empty() && text.front() == '.') {
    text.remove_prefix(1);
    fraction = text.substr(0, leading_digits(text));
    if (fraction.empty()) return std::nullopt;
    text.remove_prefix(fraction.size());
  }
  if (whole.empty() && fraction.empty()) return std::nullopt;
  if (whole.size() > 1 && whole.front() == '0') return std::nullopt;  // 010 is 8 to some
  if (whole.size() + fraction.size() > 1'000) return std::nullopt;
  const std::optional<int> exponent = exponent_of_suffix(text);
  if (!exponent) return std::nullopt;

  Decimal result{.digits = std::string(whole) + std::string(fraction),
                 .exponent = *exponent - static_cast<int>(fraction.size())};
  result.digits.erase(0, result.digits.find_first_not_of('0'));
  return result;
}

}  // namespace

std::optional<std::int64_t> parse_integer(std::string_view text, const IntegerRange& range) {
  std::optional<Decimal> decimal = parse_decimal(text);
  if (!decimal) return std::nullopt;
  std::int64_t value = 0;
  if (!decimal->digits.empty()) {
    while (decimal->digits.back() == '0') {
      decimal->digits.pop_back();
      ++decimal->exponent;
    }
    constexpr int kMostDigits = 19;  // of an int64
    if (decimal->exponent < 0 || decimal->exponent > kMostDigits) return std::nullopt;
    decimal->digits.append(static_cast<std::size_t>(decimal->exponent), '0');
    const char* end = decimal->digits.data() + decimal->digits.size();
    if (std::from_chars(decimal->digits.data(), end, value).ec != std::errc()) return std::nullopt;
  }
  if (value < range.least || value > range.most) return std::nullopt;
  return value;
}

std::optional<double> parse_real(std::string_view text, const RealRange& range) {
  const std::optional<Decimal> decimal = parse_decimal(text);
  if (!decimal) return std::nullopt;
  double value = 0;
  if (!decimal->digits.empty()) {
    const std::string plain = fmt::format("{}e{}", decimal->digits, decimal->exponent);
    const auto [end, error] = std::from_chars(plain.data(), plain.data() + plain.size(), value);
    if (error != std::errc()) return std::nullopt;  // overflow, or so small that nothing is left
  }
  const bool in_range = (range.least_included ? value >= range.least : value > range.least) &&
                        (range.most_included ? value <= range.most : value < range.most);
  return in_range ? std::optional(value) : std::nullopt;
}

std::string describe(const IntegerRange& range) {
  const bool most_is_default = range.most == IntegerRange().most;
  return fmt::format("a whole number from {} to {}", range.least,
                     most_is_default ? "1e15" : std::to_string(range.most));
}

std::string describe(const RealRange& range) {
  const std::string least =
      range.least_included ? shortest(range.least) + " or more" : "above " + shortest(range.least);
  if (range.most == std::numeric_limits<double>::max()) return "a number " + least;
  return fmt::format("a number {} and {} {}", least, range.most_included ? "at most" : "below",
                     shortest(range.most));
}

std::string shortest(double value) {
  return fmt::format("{}", value);
}

}  // namespace lathe
