// Working memory of the calling thread. It grows to the largest request and is kept, so that an
// operation allocates the first time only.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace lathe {

class ThreadScratch {
 public:
  // Memory for `count` floats, contents undefined, from here to this thread's next call.
  static float* floats(std::int64_t count) {
    thread_local ThreadScratch scratch;
    if (count > scratch.count_) {
      scratch.memory_.reset(new (kCacheLine) float[static_cast<std::size_t>(count)]);
      scratch.count_ = count;
    }
    return scratch.memory_.get();
  }

 private:
  static constexpr std::align_val_t kCacheLine{64};
  struct Free {
    void operator()(float* memory) const { ::operator delete[](memory, kCacheLine); }
  };

  std::unique_ptr<float[], Free> memory_;
  std::int64_t count_ = 0;
};

}  // namespace lathe
