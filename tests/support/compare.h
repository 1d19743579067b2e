// Comparers for tests. All of them reject NaN and infinity, and name the worst element.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <span>

namespace lathe::test {

// ||actual - expected|| <= tolerance * ||expected|| in the Euclidean norm (absolute when expected
// is all zero), with sizes equal and every value finite.
testing::AssertionResult near_in_norm(std::span<const float> actual,
                                      std::span<const double> expected, double tolerance);

// Each row's error in the norm is at most tolerance * (the root mean square norm of a row + its
// own): a row must be wrong by little even where others are much larger.
testing::AssertionResult near_in_rows(std::span<const float> actual,
                                      std::span<const double> expected, std::size_t row_length,
                                      double tolerance);

// |actual_i - expected_i| <= absolute + relative * |expected_i| for every i.
testing::AssertionResult near_each(std::span<const float> actual, std::span<const double> expected,
                                   double absolute, double relative);

// The same bytes.
testing::AssertionResult same_bits(std::span<const std::byte> actual,
                                   std::span<const std::byte> expected);

}  // namespace lathe::test
