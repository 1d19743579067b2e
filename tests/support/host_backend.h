// A device that only holds memory: for tests of what moves tensors without computing with them.
#pragma once

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "lathe/backend.h"

namespace lathe::test {

class HostBackend : public Backend {
 public:
  std::string description() const override { return "host memory"; }
  Buffer allocate(std::int64_t bytes) override {
    return Buffer(new std::byte[static_cast<std::size_t>(bytes)](),
                  [](std::byte* memory) { delete[] memory; });
  }
  void upload(const Tensor& to, const void* from) override {
    std::memcpy(to.data(), from, static_cast<std::size_t>(to.bytes()));
  }
  void download(void* to, const Tensor& from) override {
    std::memcpy(to, from.data(), static_cast<std::size_t>(from.bytes()));
    largest_download = std::max(largest_download, from.bytes());
  }
  void synchronize() override {}

  std::int64_t largest_download = 0;  // bytes

 protected:
  void execute(const EmbeddingForward&) override { refuse(); }
  void execute(const EmbeddingBackward&) override { refuse(); }
  void execute(const LayerNormForward&) override { refuse(); }
  void execute(const LayerNormBackward&) override { refuse(); }
  void execute(const LinearForward&) override { refuse(); }
  void execute(const LinearBackward&) override { refuse(); }
  void execute(const AttentionForward&) override { refuse(); }
  void execute(const AttentionBackward&) override { refuse(); }
  void execute(const AttentionCached&) override { refuse(); }
  void execute(const CrossEntropy&) override { refuse(); }
  void execute(const AdamWUpdate&) override { refuse(); }
  void execute(const SumOfSquares&) override { refuse(); }
  void execute(const Sum&) override { refuse(); }
  void execute(const Convert&) override { refuse(); }
  void execute(const Fill&) override { refuse(); }

 private:
  [[noreturn]] static void refuse() { throw std::logic_error("host memory computes nothing"); }
};

}  // namespace lathe::test
