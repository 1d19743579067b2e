#include "few_rows.h"

#include <cstring>
#include <dnnl.hpp>

#include "intrinsics.h"
#include "wide.h"

#if !defined(__x86_64__)
#include <cstdlib>
#endif

namespace lathe {
namespace {

// Products of fp32 go into 16 sums, those of element k into number k mod 16: two vectors of AVX2,
// or one of AVX-512, with the same bits.
using Float8 = float __attribute__((vector_size(32)));
using Float16 = float __attribute__((vector_size(64)));

template <class V>
void load(const float* from, V& to) {
  std::memcpy(&to, from, sizeof(V));
}

template <class V>
void load(const Bf16* from, V& to) {
  constexpr int kLanes = sizeof(V) / sizeof(float);
  float wide[kLanes];
  for (int i = 0; i < kLanes; ++i) wide[i] = to_float(from[i]);
  load(wide, to);
}

inline float sum(const Float8& x) {
  const auto halves =
      __builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 4, 5, 6, 7);
  const auto pairs = halves + __builtin_shufflevector(halves, halves, 2, 3, 0, 1);
  return pairs[0] + pairs[1];
}

inline float sum(const Float8 (&x)[2]) {
  return sum(x[0] + x[1]);
}

inline float sum(const Float16 (&x)[1]) {
  return sum(__builtin_shufflevector(x[0], x[0], 0, 1, 2, 3, 4, 5, 6, 7) +
             __builtin_shufflevector(x[0], x[0], 8, 9, 10, 11, 12, 13, 14, 15));
}

// Of what is left of two rows behind the last whole line.
template <class X, class E>
float rest(const X* left, const E* right, std::int64_t begin, std::int64_t end) {
  float total = 0;
  for (std::int64_t k = begin; k < end; ++k) total += to_float(left[k]) * to_float(right[k]);
  return total;
}

// The dot products of a tile from their partial sums of whole lines, which end before `rest_begin`.
template <int kLeft, int kRight, int kVectors, class V, class X, class E>
[[gnu::always_inline]] inline void add_up(const V (&partial)[kLeft][kRight][kVectors],
                                          const DenseRows<X>& left, const E* right,
                                          std::int64_t rest_begin, const SumsOfRows& sums) {
  const std::int64_t size = left.size;
#pragma GCC unroll 8
  for (int i = 0; i < kLeft; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < kRight; ++j) {
      *sums.from(i, j).data =
          sum(partial[i][j]) + rest(left.data + i * size, right + j * size, rest_begin, size);
    }
  }
}

// Asks for what lies as far behind an element as hides any memory's latency, for each row read by
// itself: one run of lines for two rows took a step of eight 1.13 times as long. It is brought to
// the second-level cache: for what is to come into the first there are too few places to wait in.
template <class E>
void prefetch_ahead(const E* element) {
  constexpr std::int64_t kAhead = 8192 / sizeof(E);
  __builtin_prefetch(element + kAhead, /*rw=*/0, /*locality=*/2);
}

// A tile is kLeft x kRight dot products at once, in registers. The main loop is not one that may
// have no turn: with that, g++ 12 keeps the sums in memory beside it.
template <class V, int kLeft, int kRight, class E>
void tile(const DenseRows<float>& left, const E* right, const SumsOfRows& sums) {
  constexpr std::int64_t kLine = 64 / sizeof(E), kLanes = sizeof(V) / sizeof(float);
  constexpr int kVectors = 16 / kLanes;
  const std::int64_t size = left.size;
  V partial[kLeft][kRight][kVectors] = {};
  std::int64_t k = 0;
  if (size >= kLine) {
    do {
#pragma GCC unroll 2
      for (int j = 0; j < kRight; ++j) {
        prefetch_ahead(right + j * size + k);
      }
#pragma GCC unroll 4
      for (int v = 0; v < kLine / kLanes; ++v) {
        const std::int64_t l = k + v * kLanes;
        V factors[kRight];
#pragma GCC unroll 2
        for (int j = 0; j < kRight; ++j) load(right + j * size + l, factors[j]);
#pragma GCC unroll 8
        for (int i = 0; i < kLeft; ++i) {
          V row;
          load(left.data + i * size + l, row);
#pragma GCC unroll 2
          for (int j = 0; j < kRight; ++j) partial[i][j][v % kVectors] += row * factors[j];
        }
      }
    } while ((k += kLine) + kLine <= size);
  }
  add_up(partial, left, right, k, sums);
}

#if defined(__x86_64__)

// An instruction takes a line of each row, and adds products of two of its elements to each of 16
// sums.
template <class V, int kLeft, int kRight>
LATHE_BF16 void tile(const DenseRows<Bf16>& left, const Bf16* right, const SumsOfRows& sums) {
  constexpr std::int64_t kLine = 32;
  const std::int64_t size = left.size;
  V partial[kLeft][kRight][1] = {};
  std::int64_t k = 0;
  if (size >= kLine) {
    do {
      __m512bh factors[kRight];
#pragma GCC unroll 2
      for (int j = 0; j < kRight; ++j) {
        prefetch_ahead(right + j * size + k);
        factors[j] = (__m512bh)_mm512_loadu_si512(right + j * size + k);
      }
#pragma GCC unroll 8
      for (int i = 0; i < kLeft; ++i) {
        const auto row = (__m512bh)_mm512_loadu_si512(left.data + i * size + k);
#pragma GCC unroll 2
        for (int j = 0; j < kRight; ++j) {
          partial[i][j][0] = _mm512_dpbf16_ps(partial[i][j][0], row, factors[j]);
        }
      }
    } while ((k += kLine) + kLine <= size);
  }
  add_up(partial, left, right, k, sums);
}

#else

template <class V, int kLeft, int kRight>
void tile(const DenseRows<Bf16>&, const Bf16*, const SumsOfRows&) {
  std::abort();  // there are no such instructions
}

#endif

// As many left rows at once as there are, up to kLeft; returns their number.
template <class V, int kLeft, int kRight, class X, class E>
std::int64_t tile_of_rows(const DenseRows<X>& left, const E* right, const SumsOfRows& sums) {
  if constexpr (kLeft > 1) {
    if (left.count < kLeft) return tile_of_rows<V, kLeft - 1, kRight>(left, right, sums);
  }
  tile<V, kLeft, kRight>(left, right, sums);
  return kLeft;
}

// All left rows with kRight right ones.
template <class V, int kRight, class X, class E>
void strip(const DenseRows<X>& left, const E* right, const SumsOfRows& sums) {
  constexpr int kLeft = sizeof(V) == sizeof(Float8) ? 3 : 8;  // as 16 or 32 registers have room for
  for (std::int64_t i = 0; i < left.count;) {
    i += tile_of_rows<V, kLeft, kRight>(left.from(i), right, sums.from(i, 0));
  }
}

// Strips from right row j on, as long as they are whole; returns the row behind them.
template <class V, int kRight, class X, class E>
std::int64_t strips(const DenseRows<X>& left, const DenseRows<E>& right, const SumsOfRows& sums,
                    std::int64_t j) {
  for (; j + kRight <= right.count; j += kRight) {
    strip<V, kRight>(left, right.from(j).data, sums.from(0, j));
  }
  return j;
}

// A left row alone takes the right ones one by one, in the order that memory delivers fastest; with
// more, a pair of them saves half of the loads.
template <class V, class X, class E>
void all_strips(const DenseRows<X>& left, const DenseRows<E>& right, const SumsOfRows& sums) {
  const std::int64_t begin = left.count == 1 ? 0 : strips<V, 2>(left, right, sums, 0);
  strips<V, 1>(left, right, sums, begin);
}

// Everything goes into this function, and with it is compiled for AVX-512.
template <class E>
LATHE_AVX512 __attribute__((flatten)) void all_strips_avx512(const DenseRows<float>& left,
                                                             const DenseRows<E>& right,
                                                             const SumsOfRows& sums) {
  all_strips<Float16>(left, right, sums);
}

template <class E>
void widest_strips(const DenseRows<float>& left, const DenseRows<E>& right,
                   const SumsOfRows& sums) {
  // ONEDNN_MAX_CPU_ISA counts here too, for a test of both.
  static const bool uses_avx512 =
      has_avx512() && dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core;
  if (uses_avx512) return all_strips_avx512(left, right, sums);
  all_strips<Float8>(left, right, sums);
}

}  // namespace

void dot_products(const DenseRows<float>& left, const DenseRows<float>& right,
                  const SumsOfRows& sums) {
  widest_strips(left, right, sums);
}

void dot_products(const DenseRows<float>& left, const DenseRows<Bf16>& right,
                  const SumsOfRows& sums) {
  widest_strips(left, right, sums);
}

void dot_products(const DenseRows<Bf16>& left, const DenseRows<Bf16>& right,
                  const SumsOfRows& sums) {
  all_strips<Float16>(left, right, sums);
}

}  // namespace lathe
