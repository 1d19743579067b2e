// Products of bf16 blocks in whole numbers, which every way to compute them gets exactly.
#include "../kernels/cpu/bf16_blocks.h"

#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <new>
#include <vector>

namespace lathe::test {
namespace {

// A row-major matrix with more in memory after each row, which must not be read as part of it.
class Matrix {
 public:
  Matrix(std::int64_t rows, std::int64_t columns, int start)
      : size_{rows, columns}, stride_(columns + 5) {
    for (std::int64_t i = 0; i < rows * stride_; ++i) {
      const bool beside = i % stride_ >= columns;
      values_.push_back(to_bf16(beside ? std::numeric_limits<float>::quiet_NaN()
                                       : static_cast<float>((i * 7 + start) % 17 - 8)));
    }
  }
  MatrixSize size() const { return size_; }
  Bf16Block block() const { return {values_.data(), stride_}; }
  float at(std::int64_t r, std::int64_t c) const {
    return to_float(values_[static_cast<std::size_t>(r * stride_ + c)]);
  }

 private:
  MatrixSize size_;
  std::int64_t stride_;
  std::vector<Bf16> values_;
};

std::int64_t fill_up(std::int64_t count, std::int64_t step) {
  return (count + step - 1) / step * step;
}

// Memory on a cache line, full of NaN.
class Values {
 public:
  explicit Values(std::int64_t count)
      : memory_(new (std::align_val_t{64}) Bf16[static_cast<std::size_t>(count)]) {
    std::fill_n(memory_.get(), count, to_bf16(std::numeric_limits<float>::quiet_NaN()));
  }
  Bf16* data() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(Bf16* memory) const { ::operator delete[](memory, std::align_val_t{64}); }
  };
  std::unique_ptr<Bf16[], Free> memory_;
};

class Bf16BlocksTest : public testing::Test {
 protected:
  void SetUp() override {
    if (best_bf16_instructions() == Bf16Instructions::none) {
      GTEST_SKIP() << "this processor has no instructions for bf16, or may not use them";
    }
  }

  // c = a b and then c += a b, with the left factor as it comes or from its transpose, the right
  // one likewise.
  void expect_exact(std::int64_t M, std::int64_t N, std::int64_t K, bool a_transposed,
                    bool b_transposed) {
    SCOPED_TRACE(testing::Message()
                 << M << "x" << N << "x" << K << " transposed " << a_transposed << b_transposed);
    const Matrix a(a_transposed ? K : M, a_transposed ? M : K, 1);
    const Matrix b(b_transposed ? N : K, b_transposed ? K : N, 5);
    const std::int64_t depth = fill_up(K, kPanelDepth), columns = fill_up(N, kPanelColumns);
    const Values left(fill_up(M, kPanelColumns) * depth), right(panels_size(K, N));
    if (a_transposed) {
      transpose(a.block(), a.size(), left.data(), depth);
    } else {
      for (std::int64_t r = 0; r < M; ++r) {
        for (std::int64_t k = 0; k < depth; ++k) {
          left.data()[r * depth + k] = to_bf16(k < K ? a.at(r, k) : 0.0f);
        }
      }
    }
    const Panels panels{right.data(), depth};
    if (b_transposed) {
      pack_transposed(b.block(), b.size(), panels);
    } else {
      pack(b.block(), b.size(), panels);
    }

    std::vector<float> expected, c(static_cast<std::size_t>(M * columns), 1e6f);
    for (std::int64_t i = 0; i < M; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) {
        float sum = 0;
        for (std::int64_t k = 0; k < K && j < N; ++k) {
          sum +=
              (a_transposed ? a.at(k, i) : a.at(i, k)) * (b_transposed ? b.at(j, k) : b.at(k, j));
        }
        expected.push_back(sum);
      }
    }
    const Bf16Multiplier multiplier;
    const BlockShape shape{.rows = M, .columns = columns, .depth = depth};
    multiplier.product({left.data(), depth}, panels, {c.data(), columns}, shape);
    EXPECT_EQ(c, expected);
    multiplier.add_product({left.data(), depth}, panels, {c.data(), columns}, shape);
    for (float& value : expected) value *= 2;
    EXPECT_EQ(c, expected);
  }
};

TEST_F(Bf16BlocksTest, AreExactInWholeNumbers) {
  for (const auto& [M, N, K] : {std::array{1, 1, 1},
                                {16, 16, 32},
                                {64, 64, 64},
                                {37, 83, 65},
                                {15, 17, 33},
                                {48, 33, 31},
                                {100, 16, 96}}) {
    for (const bool a_transposed : {false, true}) {
      for (const bool b_transposed : {false, true}) {
        expect_exact(M, N, K, a_transposed, b_transposed);
      }
    }
  }
}

}  // namespace
}  // namespace lathe::test
