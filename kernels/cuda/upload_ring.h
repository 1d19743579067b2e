// Uploads that do not wait: the host's bytes are copied into pinned memory, from which the GPU
// fetches them while the host goes on.
#pragma once

#include <array>
#include <cstddef>

#include "owned.h"

namespace lathe::cuda {

class UploadRing {
 public:
  UploadRing();

  // Copies `bytes` from the host to the device in the order of `stream`. `from` may be changed as
  // soon as this returns.
  void upload(void* to, const void* from, std::size_t bytes, cudaStream_t stream);

 private:
  struct Slot {
    PinnedMemory memory;
    OwnedEvent fetched;  // by the GPU
  };

  static constexpr std::size_t kSlotBytes = std::size_t{1} << 20;

  std::array<Slot, 4> slots_;  // two of tokens and two of targets
  std::size_t next_ = 0;
};

}  // namespace lathe::cuda
