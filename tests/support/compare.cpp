#include "support/compare.h"

#include <fmt/core.h>

#include <cmath>
#include <cstring>
#include <numeric>

namespace lathe::test {
namespace {

testing::AssertionResult same_size(std::size_t actual, std::size_t expected) {
  if (actual == expected) return testing::AssertionSuccess();
  return testing::AssertionFailure() << fmt::format("{} values, expected {}", actual, expected);
}

}  // namespace

testing::AssertionResult near_in_norm(std::span<const float> actual,
                                      std::span<const double> expected, double tolerance) {
  if (auto size = same_size(actual.size(), expected.size()); !size) return size;
  double error = 0, norm = 0, worst = -1;
  std::size_t worst_at = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (!std::isfinite(actual[i]) || !std::isfinite(expected[i])) {
      return testing::AssertionFailure()
             << fmt::format("[{}] is {}, expected {}", i, actual[i], expected[i]);
    }
    const double difference = std::abs(actual[i] - expected[i]);
    error += difference * difference;
    norm += expected[i] * expected[i];
    if (difference > worst) {
      worst = difference;
      worst_at = i;
    }
  }
  const double bound = norm > 0 ? tolerance * std::sqrt(norm) : tolerance;
  if (std::sqrt(error) <= bound) return testing::AssertionSuccess();
  return testing::AssertionFailure() << fmt::format(
             "difference {:.3g} of norm {:.3g} is above {:.3g}; worst at [{}]: {} for {}",
             std::sqrt(error), std::sqrt(norm), bound, worst_at, actual[worst_at],
             expected[worst_at]);
}

testing::AssertionResult near_in_rows(std::span<const float> actual,
                                      std::span<const double> expected, std::size_t row_length,
                                      double tolerance) {
  if (auto size = same_size(actual.size(), expected.size()); !size) return size;
  const auto square_sum = [](std::span<const double> x) {
    return std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
  };
  const double rows = static_cast<double>(expected.size()) / static_cast<double>(row_length);
  const double usual_norm = std::sqrt(square_sum(expected) / rows);
  for (std::size_t row = 0; row < actual.size(); row += row_length) {
    double error = 0;
    for (std::size_t i = row; i < row + row_length; ++i) {
      error += std::pow(actual[i] - expected[i], 2);
    }
    const double own_norm = std::sqrt(square_sum(expected.subspan(row, row_length)));
    const double bound = tolerance * (usual_norm + own_norm);
    if (!std::isfinite(bound) || !(std::sqrt(error) <= bound)) {
      return testing::AssertionFailure()
             << fmt::format("row {} of norm {:.3g} has an error of {:.3g}, which is above {:.3g}",
                            row / row_length, own_norm, std::sqrt(error), bound);
    }
  }
  return testing::AssertionSuccess();
}

testing::AssertionResult near_each(std::span<const float> actual, std::span<const double> expected,
                                   double absolute, double relative) {
  if (auto size = same_size(actual.size(), expected.size()); !size) return size;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double difference = std::abs(actual[i] - expected[i]);
    const bool finite = std::isfinite(actual[i]) && std::isfinite(expected[i]);
    if (!finite || !(difference <= absolute + relative * std::abs(expected[i]))) {
      return testing::AssertionFailure()
             << fmt::format("[{}] is {}, expected {}, difference {:.3g}", i, actual[i], expected[i],
                            difference);
    }
  }
  return testing::AssertionSuccess();
}

testing::AssertionResult same_bits(std::span<const std::byte> actual,
                                   std::span<const std::byte> expected) {
  if (auto size = same_size(actual.size(), expected.size()); !size) return size;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (actual[i] != expected[i]) {
      return testing::AssertionFailure() << fmt::format("byte {} differs", i);
    }
  }
  return testing::AssertionSuccess();
}

}  // namespace lathe::test
