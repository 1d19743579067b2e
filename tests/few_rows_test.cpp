// Products of a few rows, in every way that the processor has.
#include "../kernels/cpu/few_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "../kernels/cpu/bf16_blocks.h"
#include "support/device_tensors.h"

namespace lathe::test {
namespace {

// Small whole numbers: every sum is exact in fp32, so every way to compute it gives the same bits.
template <class E>
std::vector<E> whole_numbers(std::int64_t count, int start) {
  std::vector<E> values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(from_float<E>(static_cast<float>((i * 7 + start) % 17 - 8)));
  }
  return values;
}

// Every tile: all numbers of left rows, an odd one of right rows, rows that end anywhere in a line.
template <class X, class E>
void expect_exact_for_all_sizes() {
  constexpr std::int64_t kLeft = 9, kRight = 3, kMostSize = 100, kStride = 5;
  constexpr float kUntouched = 0.5f;
  for (std::int64_t size = 1; size <= kMostSize; ++size) {
    const std::vector<X> left = whole_numbers<X>(kLeft * size, 1);
    const std::vector<E> right = whole_numbers<E>(kRight * size, 5);
    for (std::int64_t count = 1; count <= kLeft; ++count) {
      std::vector<float> expected(kLeft * kStride, kUntouched), sums = expected;
      for (std::int64_t i = 0; i < count; ++i) {
        for (std::int64_t j = 0; j < kRight; ++j) {
          float sum = 0;
          for (std::int64_t k = 0; k < size; ++k) {
            sum += to_float(left[static_cast<std::size_t>(i * size + k)]) *
                   to_float(right[static_cast<std::size_t>(j * size + k)]);
          }
          expected[static_cast<std::size_t>(i * kStride + j)] = sum;
        }
      }
      dot_products(DenseRows<X>{left.data(), count, size}, DenseRows<E>{right.data(), kRight, size},
                   {sums.data(), kStride});
      ASSERT_EQ(sums, expected) << count << " rows of " << size;
    }
  }
}

TEST(FewRows, Fp32IsExactInWholeNumbers) {
  expect_exact_for_all_sizes<float, float>();
}

TEST(FewRows, WidenedBf16IsExactInWholeNumbers) {
  expect_exact_for_all_sizes<float, Bf16>();
}

TEST(FewRows, NativeBf16IsExactInWholeNumbers) {
  if (best_bf16_instructions() == Bf16Instructions::none)
    GTEST_SKIP() << "this processor has no instructions for bf16";
  expect_exact_for_all_sizes<Bf16, Bf16>();
}

// The sum of element k's products goes into number k mod 16, whatever the vectors: the bits are
// those of this, so that AVX2 and AVX-512 (few_rows_test_avx2 and this) have the same.
float sum_in_order(const float* left, const float* right, std::int64_t size) {
  float sums[16] = {};
  for (std::int64_t k = 0; k < size; ++k) sums[k % 16] = std::fma(left[k], right[k], sums[k % 16]);
  for (int count = 8; count > 0; count /= 2) {
    for (int i = 0; i < count; ++i) sums[i] += sums[i + count];
  }
  return sums[0];
}

template <class E>
void expect_one_order() {
  constexpr std::int64_t kLeft = 8, kRight = 3, kSize = 160;
  const std::vector<float> left = normal_floats(kLeft * kSize, 1);
  const std::vector<float> right = normal_floats(kRight * kSize, 2);
  std::vector<E> stored;
  for (const float x : right) stored.push_back(from_float<E>(x));
  std::vector<float> wide, expected, sums(kLeft * kRight);
  for (const E x : stored) wide.push_back(to_float(x));
  for (std::int64_t i = 0; i < kLeft; ++i) {
    for (std::int64_t j = 0; j < kRight; ++j) {
      expected.push_back(sum_in_order(left.data() + i * kSize, wide.data() + j * kSize, kSize));
    }
  }
  for (std::int64_t count = 1; count <= kLeft; ++count) {
    dot_products({left.data(), count, kSize}, DenseRows<E>{stored.data(), kRight, kSize},
                 {sums.data(), kRight});
    const auto end = static_cast<std::ptrdiff_t>(count * kRight);
    ASSERT_TRUE(std::equal(sums.begin(), sums.begin() + end, expected.begin())) << count;
  }
}

TEST(FewRows, SumsInFp32HaveOneOrder) {
  expect_one_order<float>();
  expect_one_order<Bf16>();
}

}  // namespace
}  // namespace lathe::test
