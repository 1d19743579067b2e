#include "upload_ring.h"

#include <algorithm>
#include <cstring>

namespace lathe::cuda {

UploadRing::UploadRing() {
  for (Slot& slot : slots_) {
    slot.memory = make_pinned_memory(kSlotBytes);
    slot.fetched = make_event();
  }
}

void UploadRing::upload(void* to, const void* from, std::size_t bytes, cudaStream_t stream) {
  for (std::size_t done = 0; done < bytes;) {
    const Slot& slot = slots_[next_];
    next_ = (next_ + 1) % slots_.size();
    const std::size_t part = std::min(kSlotBytes, bytes - done);
    check(cudaEventSynchronize(slot.fetched.get()), "cudaEventSynchronize");
    std::memcpy(slot.memory.get(), static_cast<const std::byte*>(from) + done, part);
    check(cudaMemcpyAsync(static_cast<std::byte*>(to) + done, slot.memory.get(), part,
                          cudaMemcpyHostToDevice, stream),
          "upload");
    check(cudaEventRecord(slot.fetched.get(), stream), "cudaEventRecord");
    done += part;
  }
}

}  // namespace lathe::cuda
