// Working memory. It grows to the largest request and is kept, so that an operation allocates the
// first time only.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace lathe {

class Scratch {
 public:
  // Memory for `count` floats on a cache line of its own, contents undefined, until the next call.
  float* floats(std::int64_t count) {
    if (count > count_) {
      memory_.reset(new (kCacheLine) float[static_cast<std::size_t>(count)]);
      count_ = count;
    }
    return memory_.get();
  }

 private:
  static constexpr std::align_val_t kCacheLine{64};
  struct Free {
    void operator()(float* memory) const { ::operator delete[](memory, kCacheLine); }
  };

  std::unique_ptr<float[], Free> memory_;
  std::int64_t count_ = 0;
};

// That of the calling thread.
struct ThreadScratch {
  static float* floats(std::int64_t count) {
    thread_local Scratch scratch;
    return scratch.floats(count);
  }
};

}  // namespace lathe
