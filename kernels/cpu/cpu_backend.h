// The CPU backend: threads over fixed tiles. How sums are cut into tasks depends on shapes alone,
// never on the thread count, so neither do the bits of any result.
#pragma once

#include <exception>
#include <memory>

#include "lathe/backend.h"
#include "scratch.h"
#include "thread_team.h"

namespace lathe {

class Matmul;  // matmul.h: tiled matrix products through oneDNN

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(int threads);
  ~CpuBackend() override;

  std::string description() const override;
  Buffer allocate(std::int64_t bytes) override;
  void upload(const Tensor& to, const void* from) override;
  void download(void* to, const Tensor& from) override;
  void synchronize() override {}
  int threads() const { return team_.threads(); }

 protected:
  void execute(const EmbeddingForward& op) override;
  void execute(const EmbeddingBackward& op) override;
  void execute(const LayerNormForward& op) override;
  void execute(const LayerNormBackward& op) override;
  void execute(const LinearForward& op) override;
  void execute(const LinearBackward& op) override;
  void execute(const AttentionForward& op) override;
  void execute(const AttentionBackward& op) override;
  void execute(const AttentionCached& op) override;
  void execute(const CrossEntropy& op) override;
  void execute(const AdamWUpdate& op) override;
  void execute(const SumOfSquares& op) override;
  void execute(const Sum& op) override;
  void execute(const Convert& op) override;
  void execute(const Fill& op) override;

 private:
  // Calls task(i) for i in [0, count), each once, on any thread in any order.
  template <class Task>
  void parallel_for(std::int64_t count, const Task& task) {
    team_.run(count, task);
  }

  ThreadTeam team_;
  std::unique_ptr<Matmul> matmul_;
  Scratch few_rows_;  // a product's rows widened to fp32
};

}  // namespace lathe
