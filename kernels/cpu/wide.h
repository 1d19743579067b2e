// Functions for processors with AVX-512 and more, beside those for AVX2: chosen between when the
// program runs. In fp32 only what has the same bits then: what works element by element, and sums
// whose order is laid down.
#pragma once

#if defined(__x86_64__)
#define LATHE_AVX512 __attribute__((target("arch=x86-64-v4")))
#define LATHE_BF16 __attribute__((target("arch=x86-64-v4,avx512bf16")))
#define LATHE_AMX __attribute__((target("arch=x86-64-v4,amx-tile,amx-bf16")))
#else
#define LATHE_AVX512
#endif

// Compiled twice by itself. Not with ThreadSanitizer, whose calls in what chooses come before it is
// ready.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#define LATHE_ALSO_AVX512 __attribute__((target_clones("arch=x86-64-v4", "default")))
#else
#define LATHE_ALSO_AVX512
#endif

namespace lathe {

inline bool has_avx512() {
#if defined(__x86_64__)
  // The parts of x86-64-v4 (System V ABI): a name for the whole comes with g++ 13.
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512cd") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return has;
#else
  return false;
#endif
}

}  // namespace lathe
