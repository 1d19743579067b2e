// The processor's own instructions, where there are some.
#pragma once

#if defined(__x86_64__)
// g++ 12 finds its own header's undefined values uninitialized.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif
