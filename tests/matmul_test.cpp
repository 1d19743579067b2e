// What linear layers do not show: tile shapes of any size, and both ways to multiply bf16.
#include "../kernels/cpu/matmul.h"

#include <gtest/gtest.h>

#include <atomic>

#include "support/compare.h"
#include "support/device_tensors.h"

namespace lathe::test {
namespace {

// Small whole numbers: every sum is exact in fp32, so every way to compute it gives the same bits.
std::vector<float> whole_numbers(std::int64_t count, int start) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<float>((i * 7 + start) % 17 - 8));
  }
  return values;
}

class MatmulTest : public testing::Test {
 protected:
  std::int64_t M_ = 45, N_ = 83, K_ = 601;  // of a product

  // A factor of this shape whose stored matrix is transposed or not, and its values by place.
  struct Values {
    std::vector<float> stored;
    bool transposed;
    std::int64_t rows, columns;
    float at(std::int64_t r, std::int64_t c) const {
      return stored[static_cast<std::size_t>(transposed ? c * rows + r : r * columns + c)];
    }
  };

  void expect_exact(Matmul& matmul, DType type, bool a_transposed, bool b_transposed,
                    TileShape shape) {
    const Values a{whole_numbers(M_ * K_, 1), a_transposed, M_, K_};
    const Values b{whole_numbers(K_ * N_, 5), b_transposed, K_, N_};
    const DeviceTensor a_matrix = store(type, a), b_matrix = store(type, b);
    std::vector<float> expected(M_ * N_);
    for (std::int64_t i = 0; i < M_; ++i) {
      for (std::int64_t j = 0; j < N_; ++j) {
        float sum = 0;
        for (std::int64_t k = 0; k < K_; ++k) sum += a.at(i, k) * b.at(k, j);
        expected[static_cast<std::size_t>(i * N_ + j)] = sum;
      }
    }
    Product product{.a = {.matrix = a_matrix, .transposed = a_transposed},
                    .b = {.matrix = b_matrix, .transposed = b_transposed},
                    .c = {},
                    .accumulate = false};
    // In memory of the threads: every place is in one tile.
    std::vector<float> out(expected.size());
    std::vector<std::atomic<int>> visits(expected.size());
    matmul.run(product, shape, [&](const Tile& tile) {
      for (std::int64_t r = 0; r < tile.rows; ++r) {
        for (std::int64_t c = 0; c < tile.columns; ++c) {
          const auto place = static_cast<std::size_t>((tile.row + r) * N_ + tile.column + c);
          out[place] = tile.at(r)[c];
          ++visits[place];
        }
      }
    });
    EXPECT_EQ(out, expected);
    for (const auto& count : visits) ASSERT_EQ(count, 1);

    // In place, and added to what is there.
    const DeviceTensor c = zeros(*backend_, DType::fp32, {M_, N_});
    product.c = c;
    matmul.run(product, shape, [](const Tile&) {});
    EXPECT_EQ(to_floats(*backend_, c), expected);
    product.accumulate = true;
    matmul.run(product, shape, [](const Tile&) {});
    for (float& value : expected) value *= 2;
    EXPECT_EQ(to_floats(*backend_, c), expected);
  }

  void expect_exact_everywhere(Matmul& matmul, DType type) {
    for (const TileShape& shape : {TileShape{7, 16}, TileShape{M_, N_}, TileShape{16, 112}}) {
      for (const bool a_transposed : {false, true}) {
        for (const bool b_transposed : {false, true}) {
          SCOPED_TRACE(testing::Message() << "tile " << shape.rows << "x" << shape.columns
                                          << " transposed " << a_transposed << b_transposed);
          expect_exact(matmul, type, a_transposed, b_transposed, shape);
        }
      }
    }
  }

  std::unique_ptr<Backend> backend_ = make_cpu_backend(2);

 private:
  DeviceTensor store(DType type, const Values& values) {
    return values.transposed
               ? to_device(*backend_, type, {values.columns, values.rows}, values.stored)
               : to_device(*backend_, type, {values.rows, values.columns}, values.stored);
  }
};

TEST_F(MatmulTest, Fp32IsExactInWholeNumbers) {
  ThreadTeam team(2);
  Matmul matmul(team);
  expect_exact_everywhere(matmul, DType::fp32);
}

TEST_F(MatmulTest, WidenedBf16IsExactInWholeNumbers) {
  ThreadTeam team(2);
  Matmul matmul(team, Bf16Products::widened);
  expect_exact_everywhere(matmul, DType::bf16);
}

TEST_F(MatmulTest, NativeBf16IsExactInWholeNumbers) {
  if (!can_multiply_bf16_natively())
    GTEST_SKIP() << "oneDNN has no bf16 products on this processor";
  ThreadTeam team(2);
  Matmul matmul(team, Bf16Products::native);
  expect_exact_everywhere(matmul, DType::bf16);
}

TEST_F(MatmulTest, Bf16WithAmxIsExactInWholeNumbers) {
  if (best_bf16_products() != Bf16Products::amx) GTEST_SKIP() << "this processor has no AMX";
  ThreadTeam team(2);
  Matmul matmul(team, Bf16Products::amx);
  expect_exact_everywhere(matmul, DType::bf16);  // which goes to oneDNN
  N_ = 96;
  K_ = 608;
  expect_exact_everywhere(matmul, DType::bf16);
}

// Tiles may follow the number of threads for that.
TEST_F(MatmulTest, Bf16WithAmxHasTheSameBitsInTilesOfAnyShape) {
  if (best_bf16_products() != Bf16Products::amx) GTEST_SKIP() << "this processor has no AMX";
  N_ = 96;
  K_ = 608;
  ThreadTeam team(2);
  Matmul matmul(team);
  const DeviceTensor a = to_device(*backend_, DType::bf16, {M_, K_}, normal_floats(M_ * K_, 1));
  const DeviceTensor b = to_device(*backend_, DType::bf16, {K_, N_}, normal_floats(K_ * N_, 2));
  const auto product_in = [&](TileShape shape) {
    const DeviceTensor c = zeros(*backend_, DType::fp32, {M_, N_});
    matmul.run({.a = {.matrix = a, .transposed = false},
                .b = {.matrix = b, .transposed = false},
                .c = c,
                .accumulate = false},
               shape, [](const Tile&) {});
    return to_floats(*backend_, c);
  };
  const std::vector<float> whole = product_in({M_, N_});
  for (const TileShape& shape : {TileShape{7, 16}, TileShape{16, 32}, TileShape{32, 96}}) {
    EXPECT_EQ(product_in(shape), whole) << shape.rows << "x" << shape.columns;
  }
}

TEST_F(MatmulTest, DefaultTilesCoverOddSizesEvenly) {
  ThreadTeam team(2);
  const Matmul matmul(team);
  const auto tiles = [&](std::int64_t M, std::int64_t N, std::int64_t K) {
    return matmul.default_tile_shape(
        {.a = {.matrix = Tensor(nullptr, DType::fp32, {M, K}), .transposed = false},
         .b = {.matrix = Tensor(nullptr, DType::fp32, {N, K}), .transposed = true},
         .c = {},
         .accumulate = false});
  };
  // One row is one row of tiles; several threads find work in GPT-2's smallest product.
  EXPECT_EQ(tiles(1, 768, 768).rows, 1);
  const TileShape projection = tiles(256, 768, 768);
  EXPECT_GE((256 / projection.rows) * (768 / projection.columns), 4);
  // GPT-2 XL's 1600 columns: no sliver is left over.
  const std::int64_t columns = tiles(4096, 1600, 1600).columns;
  EXPECT_GE((1600 - 1) % columns + 1, columns / 2);
}

}  // namespace
}  // namespace lathe::test
