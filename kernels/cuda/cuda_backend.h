// The CUDA backend: one GPU, one compute stream, on which everything runs in the order it was
// given.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "lathe/backend.h"

namespace lathe {

class CudaBackend final : public Backend {
 public:
  // Takes GPU number `device`. Errors: usage, when there is no such GPU.
  explicit CudaBackend(int device = 0);
  ~CudaBackend() override;

  std::string description() const override;
  Buffer allocate(std::int64_t bytes) override;
  void upload(const Tensor& to, const void* from) override;
  void download(void* to, const Tensor& from) override;
  void synchronize() override;

 protected:
  void execute(const EmbeddingForward& op) override;
  void execute(const EmbeddingBackward& op) override;
  void execute(const LayerNormForward& op) override;
  void execute(const LayerNormBackward& op) override;
  void execute(const LinearForward& op) override;
  void execute(const LinearBackward& op) override;
  void execute(const AttentionForward& op) override;
  void execute(const AttentionBackward& op) override;
  void execute(const CrossEntropy& op) override;
  void execute(const AdamWUpdate& op) override;
  void execute(const SumOfSquares& op) override;
  void execute(const Sum& op) override;
  void execute(const Convert& op) override;
  void execute(const Fill& op) override;

 private:
  struct DestroyStream {
    void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
  };

  cudaStream_t stream() const { return stream_.get(); }

  // Memory for one operation's own sums, until the next operation asks for some.
  float* scratch(std::int64_t floats);

  int device_;
  std::unique_ptr<CUstream_st, DestroyStream> stream_;
  Buffer scratch_;
  std::int64_t scratch_floats_ = 0;
};

}  // namespace lathe
