// Tensor cores as kernels use them, from sm_80 on: 16 x 16 matrices spread over a warp (mma.sync),
// tiles of bf16 in shared memory from which ldmatrix reads them, and copies that run in the
// background (cp.async). Layouts: "Matrix Fragments for mma.m16n8k16" in the PTX ISA.
#pragma once

#include "device.cuh"

namespace lathe::cuda {

inline constexpr int kFragment = 16;  // rows and columns of a fragment
inline constexpr int kPiece = 8;      // elements of bf16 in 16 bytes

__device__ inline int lane_index() {
  return static_cast<int>(threadIdx.x) % kWarp;
}

// Factors of a product, bf16.
struct LeftFragment {
  unsigned registers[4];
};
struct RightFragment {
  unsigned registers[4];
};

// A result, fp32. A lane has 2 of its rows and in each 4 columns: see WarpSums.
struct SumFragment {
  float values[8];

  __device__ float& at(int row, int column) { return values[place(row, column)]; }
  __device__ float at(int row, int column) const { return values[place(row, column)]; }

 private:
  __device__ static constexpr int place(int row, int column) {
    return column / 2 * 4 + row * 2 + column % 2;
  }
};

// sums += left * right; an instruction makes eight columns.
__device__ inline void multiply_add(SumFragment& sums, const LeftFragment& left,
                                    const RightFragment& right) {
  const unsigned* a = left.registers;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float* d = sums.values + 4 * half;
    const unsigned* b = right.registers + 2 * half;
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}

// Two neighbours as bf16, to nearest even.
__device__ inline unsigned narrow_pair(float first, float second) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

// A result becomes a factor without leaving its lanes.
__device__ inline LeftFragment narrow(const SumFragment& sums) {
  return {{narrow_pair(sums.at(0, 0), sums.at(0, 1)), narrow_pair(sums.at(1, 0), sums.at(1, 1)),
           narrow_pair(sums.at(0, 2), sums.at(0, 3)), narrow_pair(sums.at(1, 2), sums.at(1, 3))}};
}

__device__ inline unsigned shared_address(const void* memory) {
  return static_cast<unsigned>(__cvta_generic_to_shared(memory));
}

// Four 8 x 8 matrices; lane 8m + r has the shared address of row r of matrix m.
template <bool Transposed>
__device__ void load_matrices(unsigned (&registers)[4], unsigned row) {
  if constexpr (Transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(row)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(row)
                 : "memory");
  }
}

// (Rows, Columns) of bf16 in shared memory, in pieces of 16 bytes. The pieces of a row are
// permuted: see conflict_free.
template <int Rows, int Columns>
struct alignas(256) SharedTile {
  static constexpr int kRows = Rows, kColumns = Columns, kPieces = Columns / kPiece;
  static constexpr unsigned kRowBytes = kPieces * sizeof(uint4);

  uint4 pieces[Rows * kPieces];

  __host__ __device__ static constexpr int place(int row, int piece) {
    constexpr int kRowsSideBySide = kPieces < 8 ? 8 / kPieces : 1;  // in the 128 bytes of all banks
    constexpr int kPermuted = kPieces < 8 ? kPieces : 8;
    return row * kPieces + (piece ^ (row / kRowsSideBySide % kPermuted));
  }
  __device__ uint4& at(int row, int piece) { return pieces[place(row, piece)]; }
  __device__ const uint4& at(int row, int piece) const { return pieces[place(row, piece)]; }

  // The fragment with element (i, j) from (row + i, column + j).
  __device__ LeftFragment left(int row, int column) const {
    LeftFragment fragment;
    load_matrices<false>(fragment.registers, down_first(row, column));
    return fragment;
  }
  __device__ RightFragment right(int row, int column) const {
    RightFragment fragment;
    load_matrices<true>(fragment.registers, down_first(row, column));
    return fragment;
  }
  // Its transpose: element (i, j) from (row + j, column + i).
  __device__ RightFragment right_transposed(int row, int column) const {
    RightFragment fragment;
    load_matrices<false>(fragment.registers, across_first(row, column));
    return fragment;
  }

 private:
  // The address of the 8 elements that this lane names, when the second of the four matrices lies
  // below the first, and when it lies to the right of it.
  __device__ unsigned down_first(int row, int column) const {
    return address(row, column, lane_index() % 16, lane_index() / 16);
  }
  __device__ unsigned across_first(int row, int column) const {
    return address(row, column, lane_index() % 8 + lane_index() / 16 * 8, lane_index() / 8 % 2);
  }
  // `row` and `column` are of a fragment, multiples of 16. A column is an XOR then, and a row a
  // sum: one register serves many fragments. (The tile must begin at a multiple of a row's bytes.)
  __device__ unsigned address(int row, int column, int lane_row, int lane_piece) const {
    return (shared_address(&at(lane_row, lane_piece)) ^ static_cast<unsigned>(2 * column)) +
           static_cast<unsigned>(row) * kRowBytes;
  }
};

// Whether ldmatrix, which reads one piece from each of eight rows at a time, finds them in
// different banks.
template <class Tile>
constexpr bool conflict_free() {
  for (int piece = 0; piece < Tile::kPieces; ++piece) {
    unsigned groups = 0;  // of four banks
    for (int row = 0; row < 8; ++row) groups |= 1u << Tile::place(row, piece) % 8;
    if (groups != 0xff) return false;
  }
  return true;
}
static_assert(conflict_free<SharedTile<16, 32>>() && conflict_free<SharedTile<16, 64>>() &&
              conflict_free<SharedTile<16, 128>>());

// Starts a copy from global to shared memory; what does not exist becomes zeros and is not read.
__device__ inline void start_copy(uint4& to, const void* from, bool exists) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(shared_address(&to)), "l"(from), "r"(exists ? 16 : 0)
               : "memory");
}
__device__ inline void start_copy(float& to, const float* from, bool exists) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
               :
               : "r"(shared_address(&to)), "l"(from), "r"(exists ? 4 : 0)
               : "memory");
}

// All copies that the block's threads started have landed, and all threads are here: what they
// read before may be overwritten. All threads must call.
__device__ inline void finish_copies() {
  asm volatile("cp.async.wait_all;" : : : "memory");
  __syncthreads();
}

}  // namespace lathe::cuda
