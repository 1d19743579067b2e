#include "matmul.h"

#include <omp.h>

#include <algorithm>
#include <dnnl.hpp>
#include <new>

#include "bf16_blocks.h"
#include "compute_type.h"
#include "scratch.h"

namespace lathe {
namespace {

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// Makes oneDNN use only the calling thread; the team's others do so always.
class OneThreadEach {
 public:
  OneThreadEach() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThreadEach() { omp_set_num_threads(before_); }
  OneThreadEach(const OneThreadEach&) = delete;
  OneThreadEach& operator=(const OneThreadEach&) = delete;

 private:
  int before_;
};

// Columns of a and rows of b that are widened or packed at a time: with tiles of the default size,
// both blocks stay in a second-level cache of 1 MiB.
constexpr std::int64_t kDepthBlock = 256;

// Kernels kept. A training run needs some tens; sampling meets a new length with every token.
constexpr std::size_t kMaxKernels = 512;

// Floats rounded up to whole cache lines.
std::int64_t line_up(std::int64_t count) {
  return ceil_div(count, 16) * 16;
}

// The first value of the rectangle of a factor that starts at (row, column), and its strides.
struct Block {
  void* data;
  std::int64_t stride;
};

Block block_of(const Factor& factor, std::int64_t row, std::int64_t column) {
  if (factor.transposed) std::swap(row, column);
  const std::int64_t stride = factor.matrix.size(1);
  auto* data = static_cast<std::byte*>(factor.matrix.data());
  return {data + (row * stride + column) * size_of(factor.matrix.type()), stride};
}

// The same rectangle widened to fp32, dense.
Block widened(const Factor& factor, std::int64_t row, std::int64_t column, std::int64_t rows,
              std::int64_t columns, float* values) {
  const Block block = block_of(factor, row, column);
  if (factor.transposed) std::swap(rows, columns);
  for (std::int64_t r = 0; r < rows; ++r) {
    const Bf16* __restrict from = static_cast<const Bf16*>(block.data) + r * block.stride;
    float* __restrict to = values + r * columns;
#pragma omp simd
    for (std::int64_t c = 0; c < columns; ++c) to[c] = to_float(from[c]);
  }
  return {values, columns};
}

struct Place {
  std::int64_t row, column;
};

Bf16Block bf16_block(const Factor& factor, Place place) {
  const Block block = block_of(factor, place.row, place.column);
  return {static_cast<const Bf16*>(block.data), block.stride};
}

// A rectangle of a left factor: where it lies or, from a transposed matrix, at `values`.
Bf16Block left_block(const Factor& factor, Place place, MatrixSize size, Bf16* values) {
  const Bf16Block block = bf16_block(factor, place);
  if (!factor.transposed) return block;
  transpose(block, {size.columns, size.rows}, values, size.columns);
  return {values, size.columns};
}

// One of a right factor, in panels at `values`.
Panels right_panels(const Factor& factor, Place place, MatrixSize size, Bf16* values) {
  const Panels panels{values, size.rows};
  const Bf16Block block = bf16_block(factor, place);
  if (factor.transposed) {
    pack_transposed(block, {size.columns, size.rows}, panels);
  } else {
    pack(block, size, panels);
  }
  return panels;
}

Tile tile_at(const Product& product, TileShape shape, std::int64_t down, std::int64_t across) {
  const std::int64_t row = down * shape.rows, column = across * shape.columns;
  const std::int64_t columns = std::min(shape.columns, product.columns() - column);
  const bool in_place = !product.c.empty();
  const std::int64_t stride = in_place ? product.c.size(1) : columns;
  return {.row = row,
          .column = column,
          .rows = std::min(shape.rows, product.rows() - row),
          .columns = columns,
          .values = in_place ? product.c.as<float>() + row * stride + column : nullptr,
          .stride = stride};
}

dnnl::memory::desc matrix_desc(std::int64_t rows, std::int64_t columns,
                               dnnl::memory::data_type type, std::int64_t stride, bool transposed) {
  const dnnl::memory::dims strides =
      transposed ? dnnl::memory::dims{1, stride} : dnnl::memory::dims{stride, 1};
  return dnnl::memory::desc({rows, columns}, type, strides);
}

}  // namespace

struct Matmul::Kernel {
  using Type = dnnl::memory::data_type;

  explicit Kernel(const KernelKey& key)
      : a(matrix_desc(key.rows, key.depth, Type::bf16, key.a_stride, key.a_transposed)),
        b(matrix_desc(key.depth, key.columns, Type::bf16, key.b_stride, key.b_transposed)),
        c(matrix_desc(key.rows, key.columns, Type::f32, key.c_stride, false)) {
    dnnl::primitive_attr attributes;
    // The library's own scratchpad belongs to the kernel, which threads share.
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (key.accumulate) {
      dnnl::post_ops add;
      add.append_sum();
      attributes.set_post_ops(add);
    }
    const dnnl::matmul::primitive_desc description({a, b, c}, attributes, cpu_engine());
    scratchpad = description.scratchpad_desc();
    primitive = dnnl::matmul(description);
  }

  dnnl::memory::desc a, b, c, scratchpad;
  dnnl::matmul primitive;
};

Bf16Products best_bf16_products() {
  switch (best_bf16_instructions()) {
    case Bf16Instructions::amx:
      return Bf16Products::amx;
    case Bf16Instructions::avx512:
      return Bf16Products::native;
    default:
      return Bf16Products::widened;
  }
}

bool can_multiply_bf16_natively() {
  return dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core;
}

Matmul::Matmul(ThreadTeam& team, Bf16Products bf16_products)
    : team_(team), bf16_products_(bf16_products) {}

Matmul::~Matmul() = default;

void Matmul::run(const Product& product, const Finish& finish) {
  run(product, default_tile_shape(product), finish);
}

void Matmul::run(const Product& product, TileShape shape, const Finish& finish) {
  const std::int64_t down = ceil_div(product.rows(), shape.rows);
  const std::int64_t across = ceil_div(product.columns(), shape.columns);
  const OneThreadEach one_thread_each;
  const Bf16Products way = way_of(product);
  if (way == Bf16Products::native) prepare(product, shape);
  team_.run(down * across, [&](std::int64_t i) {
    const Tile tile = tile_at(product, shape, i / across, i % across);
    switch (way) {
      case Bf16Products::amx:
        return finish(multiply_with_amx(product, tile));
      case Bf16Products::native:
        return finish(multiply_natively(product, tile));
      case Bf16Products::widened:
        return finish(multiply_floats(product, tile));
    }
  });
}

Bf16Products Matmul::way_of(const Product& product) const {
  if (product.a.matrix.type() == DType::fp32) return Bf16Products::widened;
  const bool has_whole_panels =
      product.columns() % kPanelColumns == 0 && product.depth() % kPanelDepth == 0;
  if (bf16_products_ == Bf16Products::amx && !has_whole_panels) return Bf16Products::native;
  return bf16_products_;
}

Matmul::KernelKey Matmul::key(const Product& product, const Tile& tile) {
  return {.rows = tile.rows,
          .columns = tile.columns,
          .depth = product.depth(),
          .a_stride = product.a.matrix.size(1),
          .b_stride = product.b.matrix.size(1),
          .c_stride = tile.stride,
          .a_transposed = product.a.transposed,
          .b_transposed = product.b.transposed,
          .accumulate = product.accumulate};
}

void Matmul::prepare(const Product& product, TileShape shape) {
  if (kernels_.size() > kMaxKernels) kernels_.clear();
  // Only the last tiles down and across can differ from the others.
  for (const std::int64_t down : {std::int64_t{0}, (product.rows() - 1) / shape.rows}) {
    for (const std::int64_t across : {std::int64_t{0}, (product.columns() - 1) / shape.columns}) {
      const KernelKey wanted = key(product, tile_at(product, shape, down, across));
      std::unique_ptr<Kernel>& kernel = kernels_[wanted];
      if (kernel != nullptr) continue;
      kernel = std::make_unique<Kernel>(wanted);
      const auto bytes = static_cast<std::int64_t>(kernel->scratchpad.get_size());
      scratchpad_floats_ = std::max(scratchpad_floats_, ceil_div(bytes, sizeof(float)));
    }
  }
}

Tile Matmul::multiply_natively(const Product& product, Tile tile) const {
  const std::int64_t tile_count = product.c.empty() ? line_up(tile.rows * tile.columns) : 0;
  float* scratch = ThreadScratch::floats(tile_count + scratchpad_floats_);
  if (product.c.empty()) tile.values = scratch;
  float* scratchpad = scratch + tile_count;

  const dnnl::engine& engine = cpu_engine();
  dnnl::stream stream(engine);
  const Kernel& kernel = *kernels_.at(key(product, tile));
  const Block a = block_of(product.a, tile.row, 0), b = block_of(product.b, 0, tile.column);
  kernel.primitive.execute(
      stream, {{DNNL_ARG_SRC, dnnl::memory(kernel.a, engine, a.data)},
               {DNNL_ARG_WEIGHTS, dnnl::memory(kernel.b, engine, b.data)},
               {DNNL_ARG_DST, dnnl::memory(kernel.c, engine, tile.values)},
               {DNNL_ARG_SCRATCHPAD, dnnl::memory(kernel.scratchpad, engine, scratchpad)}});
  return tile;
}

// By oneDNN's sgemm: its matmul primitive takes a little longer for fp32.
Tile Matmul::multiply_floats(const Product& product, Tile tile) {
  const bool widens = product.a.matrix.type() == DType::bf16;
  const std::int64_t block = widens ? std::min(kDepthBlock, product.depth()) : product.depth();
  const std::int64_t tile_count = product.c.empty() ? line_up(tile.rows * tile.columns) : 0;
  const std::int64_t a_count = widens ? line_up(tile.rows * block) : 0;
  const std::int64_t b_count = widens ? line_up(tile.columns * block) : 0;
  float* scratch = ThreadScratch::floats(tile_count + a_count + b_count);
  if (product.c.empty()) tile.values = scratch;
  float* a_values = scratch + tile_count;
  float* b_values = a_values + a_count;

  const auto letter = [](const Factor& factor) { return factor.transposed ? 'T' : 'N'; };
  for (std::int64_t k = 0; k < product.depth(); k += block) {
    const std::int64_t depth = std::min(block, product.depth() - k);
    const Block a = widens ? widened(product.a, tile.row, k, tile.rows, depth, a_values)
                           : block_of(product.a, tile.row, k);
    const Block b = widens ? widened(product.b, k, tile.column, depth, tile.columns, b_values)
                           : block_of(product.b, k, tile.column);
    const float keeps = k > 0 || product.accumulate ? 1.0f : 0.0f;
    const dnnl::status status =
        dnnl::sgemm(letter(product.a), letter(product.b), tile.rows, tile.columns, depth, 1.0f,
                    static_cast<const float*>(a.data), a.stride, static_cast<const float*>(b.data),
                    b.stride, keeps, tile.values, tile.stride);
    if (status != dnnl::status::success) throw std::bad_alloc();  // its arguments are right
  }
  return tile;
}

Tile Matmul::multiply_with_amx(const Product& product, Tile tile) {
  const std::int64_t block = std::min(kDepthBlock, product.depth());
  const std::int64_t tile_count = product.c.empty() ? line_up(tile.rows * tile.columns) : 0;
  const std::int64_t a_count = product.a.transposed ? panels_size(block, tile.rows) / 2 : 0;
  const std::int64_t b_count = panels_size(block, tile.columns) / 2;
  float* scratch = ThreadScratch::floats(tile_count + a_count + b_count);
  if (product.c.empty()) tile.values = scratch;
  auto* a_values = reinterpret_cast<Bf16*>(scratch + tile_count);
  auto* b_values = reinterpret_cast<Bf16*>(scratch + tile_count + a_count);

  const Bf16Multiplier multiplier;
  for (std::int64_t k = 0; k < product.depth(); k += block) {
    const std::int64_t depth = std::min(block, product.depth() - k);
    const OutBlock c{tile.values, tile.stride};
    const BlockShape shape{.rows = tile.rows, .columns = tile.columns, .depth = depth};
    const Bf16Block a = left_block(product.a, {tile.row, k}, {tile.rows, depth}, a_values);
    const Panels b = right_panels(product.b, {k, tile.column}, {depth, tile.columns}, b_values);
    if (k > 0 || product.accumulate) {
      multiplier.add_product(a, b, c, shape);
    } else {
      multiplier.product(a, b, c, shape);
    }
  }
  return tile;
}

}  // namespace lathe
