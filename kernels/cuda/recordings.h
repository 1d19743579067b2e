// Work that is done again and again, recorded as a CUDA graph: the host hands it over in one call
// instead of one per kernel.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "lathe/backend.h"
#include "owned.h"

namespace lathe {
class CudaBackend;

namespace cuda {

class Recordings final : public Recorder {
 public:
  Recordings(CudaBackend& backend, bool records) : backend_(backend), records_(records) {}

  // The first call with a key does the work itself, which may choose plans and take scratch memory;
  // the second records it; from then on the record is replayed. Under a tracer or a profiler, or
  // when nothing is to be recorded, the work itself is done.
  void run(const std::string& key, const std::function<void()>& work) override;

 private:
  CudaBackend& backend_;
  bool records_;
  std::map<std::string, OwnedGraphExec> recordings_;  // null after the first call
  std::int64_t scratch_generation_ = 0;               // of the memory that they point to
};

}  // namespace cuda
}  // namespace lathe
