// Tokens without shards.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "lathe/tokenize.h"

namespace lathe::test {

// Those of one part of texts.
inline std::vector<std::uint16_t> tokenize_in_memory(const TextSpec& spec,
                                                     const Tokenizer& tokenizer, Part part) {
  class MemorySink final : public TokenSink {
   public:
    explicit MemorySink(Part wanted) : wanted_(wanted) {}
    void append(std::span<const std::uint16_t> tokens, Part part) override {
      if (part == wanted_) tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    }
    void progress(const TokenizeProgress&) override {}
    std::vector<std::uint16_t> take() { return std::move(tokens_); }

   private:
    Part wanted_;
    std::vector<std::uint16_t> tokens_;
  };
  MemorySink sink(part);
  tokenize(spec, tokenizer, sink);
  return sink.take();
}

}  // namespace lathe::test
