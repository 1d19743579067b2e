#include "recordings.h"

#include "cuda_backend.h"

namespace lathe::cuda {
namespace {

OwnedGraphExec record(cudaStream_t stream, const std::function<void()>& work) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  cudaGraph_t captured = nullptr;
  try {
    work();
  } catch (...) {
    cudaStreamEndCapture(stream, &captured);  // leaves the stream usable; what failed is thrown on
    const OwnedGraph unused(captured);
    throw;
  }
  check(cudaStreamEndCapture(stream, &captured), "cudaStreamEndCapture");
  const OwnedGraph graph(captured);
  cudaGraphExec_t executable = nullptr;
  check(cudaGraphInstantiate(&executable, graph.get(), 0), "cudaGraphInstantiate");
  return OwnedGraphExec(executable);
}

}  // namespace

void Recordings::run(const std::string& key, const std::function<void()>& work) {
  const bool is_watched = backend_.is_traced() || backend_.is_profiled() || backend_.is_observed();
  const bool does_work = !records_ || is_watched;
  if (scratch_generation_ != backend_.scratch_generation()) recordings_.clear();
  scratch_generation_ = backend_.scratch_generation();
  const auto found = recordings_.find(key);
  if (does_work || found == recordings_.end()) {
    backend_.set_repeating(true);
    work();
    backend_.set_repeating(false);
    if (!does_work) recordings_[key] = nullptr;
    return;
  }
  if (!found->second) found->second = record(backend_.stream(), work);
  check(cudaGraphLaunch(found->second.get(), backend_.stream()), "cudaGraphLaunch");
}

}  // namespace lathe::cuda
