// Functions that are compiled twice, also for AVX-512, and chosen between when the program starts.
// Only what works element by element: with wider vectors a sum over elements would have other bits.
// Not with ThreadSanitizer, whose calls in what chooses come before it is ready.
#pragma once

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#define LATHE_ALSO_AVX512 __attribute__((target_clones("arch=x86-64-v4", "default")))
#else
#define LATHE_ALSO_AVX512
#endif
