// Tensor core instructions and the loads that feed them. Layouts: "Matrix Fragments for mma" in
// the PTX ISA. Lane l has row l/4 of a fragment and, in that row, the columns of l%4.
#include "half.h"
#include "instruction_table.h"
#include "warp.h"

namespace lathe::ptx {
namespace {

constexpr int kRows = 16, kColumns = 8;

// How a register holds elements of a and b, and how many.
struct Bf16Elements {
  static constexpr int kCount = 2;
  static float at(std::uint64_t bits, int i) {
    const auto pair = static_cast<std::uint32_t>(bits);
    return std::bit_cast<float>(i == 0 ? pair << 16 : pair & 0xffff0000u);
  }
};
struct F16Elements {
  static constexpr int kCount = 2;
  static float at(std::uint64_t bits, int i) {
    return static_cast<float>(from_half<F16Format>(static_cast<std::uint16_t>(bits >> (16 * i))));
  }
};
struct Tf32Elements {  // the low bits of the float are not looked at
  static constexpr int kCount = 1;
  static float at(std::uint64_t bits, int) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) & ~0x1fffu);
  }
};

// d = a b + c with a (16, Depth), b (Depth, 8). Four lanes hold 4 * kCount columns of a; further
// ones, and rows from 8 on, are in further registers.
template <class Elements, int Depth>
void multiply(Warp& warp, const Instruction& instruction, std::uint32_t) {
  constexpr int kStep = 4 * Elements::kCount, kSteps = Depth / kStep;
  float a[kRows][Depth], b[Depth][kColumns];
  const auto source = [&](int i) {
    return warp.lanes(instruction.sources[static_cast<std::size_t>(i)]);
  };
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const int major = lane / 4, minor = lane % 4 * Elements::kCount;
    for (int step = 0; step < kSteps; ++step) {
      for (int i = 0; i < Elements::kCount; ++i) {
        const int k = step * kStep + minor + i;
        a[major][k] = Elements::at(source(2 * step)[lane], i);
        a[major + 8][k] = Elements::at(source(2 * step + 1)[lane], i);
        b[k][major] = Elements::at(source(2 * kSteps + step)[lane], i);
      }
    }
  }
  float sums[kRows][kColumns] = {};
  for (int row = 0; row < kRows; ++row) {
    for (int k = 0; k < Depth; ++k) {
      for (int column = 0; column < kColumns; ++column)
        sums[row][column] += a[row][k] * b[k][column];
    }
  }
  for (int lane = 0; lane < kWarpSize; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const float c = get<float>(source(3 * kSteps + i)[lane]);
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      warp.lanes(instruction.destinations[static_cast<std::size_t>(i)])[lane] =
          put(c + sums[row][column]);
    }
  }
}

using Matrix = std::array<std::array<std::uint16_t, 8>, 8>;

// Lane l gets elements 2(l%4) and the next of row l/4, or of that column.
std::uint32_t fragment(const Matrix& matrix, int lane, bool transposed) {
  const auto major = static_cast<std::size_t>(lane / 4);
  const auto minor = static_cast<std::size_t>(lane % 4 * 2);
  const std::uint16_t low = transposed ? matrix[minor][major] : matrix[major][minor];
  const std::uint16_t high = transposed ? matrix[minor + 1][major] : matrix[major][minor + 1];
  return std::uint32_t{high} << 16 | low;
}

// Lane 8m+r has the address of row r of matrix m.
template <bool Transposed>
void load_matrices(Warp& warp, const Instruction& instruction, std::uint32_t) {
  const std::uint64_t* addresses = warp.lanes(instruction.sources[0]);
  std::array<Matrix, 4> matrices;
  const std::size_t count = instruction.destinations.size();
  for (std::size_t i = 0; i < 8 * count; ++i) {
    const std::uint64_t address = addresses[i] + static_cast<std::uint64_t>(instruction.offsets[0]);
    std::memcpy(matrices[i / 8][i % 8].data(),
                access(warp, static_cast<int>(i), Space::shared, address, 16, Use::read), 16);
  }
  for (std::size_t m = 0; m < count; ++m) {
    for (int lane = 0; lane < kWarpSize; ++lane) {
      warp.lanes(instruction.destinations[m])[lane] = fragment(matrices[m], lane, Transposed);
    }
  }
}

void transpose_matrix(Warp& warp, const Instruction& instruction, std::uint32_t) {
  const std::uint64_t* source = warp.lanes(instruction.sources[0]);
  Matrix matrix;
  for (std::size_t lane = 0; lane < kWarpSize; ++lane) {
    matrix[lane / 4][lane % 4 * 2] = static_cast<std::uint16_t>(source[lane]);
    matrix[lane / 4][lane % 4 * 2 + 1] = static_cast<std::uint16_t>(source[lane] >> 16);
  }
  for (int lane = 0; lane < kWarpSize; ++lane)
    warp.lanes(instruction.destinations[0])[lane] = fragment(matrix, lane, true);
}

Form whole_warp(std::string_view operands, Handler run) {
  return {operands, run, Flow::next, Gather::all};
}

}  // namespace

void add_matrix_instructions(FormTable& table) {
  table["mma.m16n8k16.row.col.f32.bf16.bf16.f32"] =
      whole_warp("d4s4s2s4", multiply<Bf16Elements, 16>);
  table["mma.m16n8k8.row.col.f32.bf16.bf16.f32"] =
      whole_warp("d4s2s1s4", multiply<Bf16Elements, 8>);
  table["mma.m16n8k16.row.col.f32.f16.f16.f32"] = whole_warp("d4s4s2s4", multiply<F16Elements, 16>);
  table["mma.m16n8k8.row.col.f32.f16.f16.f32"] = whole_warp("d4s2s1s4", multiply<F16Elements, 8>);
  table["mma.m16n8k8.row.col.f32.tf32.tf32.f32"] =
      whole_warp("d4s4s2s4", multiply<Tf32Elements, 8>);
  table["mma.m16n8k4.row.col.f32.tf32.tf32.f32"] =
      whole_warp("d4s2s1s4", multiply<Tf32Elements, 4>);
  table["ldmatrix.m8n8.x1.b16"] = whole_warp("d1a", load_matrices<false>);
  table["ldmatrix.m8n8.x2.b16"] = whole_warp("d2a", load_matrices<false>);
  table["ldmatrix.m8n8.x4.b16"] = whole_warp("d4a", load_matrices<false>);
  table["ldmatrix.m8n8.x1.trans.b16"] = whole_warp("d1a", load_matrices<true>);
  table["ldmatrix.m8n8.x2.trans.b16"] = whole_warp("d2a", load_matrices<true>);
  table["ldmatrix.m8n8.x4.trans.b16"] = whole_warp("d4a", load_matrices<true>);
  table["movmatrix.m8n8.trans.b16"] = whole_warp("ds", transpose_matrix);
}

}  // namespace lathe::ptx
