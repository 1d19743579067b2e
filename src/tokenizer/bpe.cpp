#include "lathe/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "bpe_cache.h"
#include "bpe_merge.h"
#include "bpe_words.h"
#include "lathe/error.h"

namespace lathe {
namespace {

// What an encoder looks up, made once for each tokenizer.
struct BpeTables {
  explicit BpeTables(const BpeVocabulary& vocabulary, const std::string& name)
      : merges(vocabulary.merges) {
    byte_tokens.fill(-1);
    for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
      const std::string& bytes = vocabulary.tokens[id];
      if (bytes.size() != 1) continue;
      byte_tokens[static_cast<unsigned char>(bytes[0])] = static_cast<std::int32_t>(id);
    }
    for (std::size_t byte = 0; byte < byte_tokens.size(); ++byte) {
      if (byte_tokens[byte] >= 0) continue;
      throw Error(ExitCode::data,
                  fmt::format("{}: has no token for the byte {}; byte-level BPE has one for each",
                              name, byte));
    }
  }

  MergeTable merges;
  std::array<std::int32_t, 256> byte_tokens;
};

class BpeEncoder final : public Encoder {
 public:
  explicit BpeEncoder(const BpeTables& tables) : tables_(tables) {}

  void encode(std::string_view text, std::vector<std::int32_t>& tokens) override {
    const char* const end = text.data() + text.size();
    for (const char* at = text.data(); at != end;) {
      const char* next = word_end(at, end);
      const std::string_view word(at, static_cast<std::size_t>(next - at));
      if (ready_.size() - count_ < Long::kLongest) flush(tokens);
      if (word.size() <= Short::kLongest) {
        encode_short(word, end, short_);
      } else if (word.size() <= Long::kLongest) {
        encode_short(word, end, long_);
      } else {
        flush(tokens);
        const std::span<const std::int32_t> merged = merge(word);
        tokens.insert(tokens.end(), merged.begin(), merged.end());
      }
      at = next;
    }
    flush(tokens);
  }

 private:
  using Short = WordCache<2>;
  using Long = WordCache<4>;

  // `end` is that of the text.
  template <class Cache>
  void encode_short(std::string_view word, const char* end, Cache& cache) {
    const typename Cache::Key key(word, end);
    const std::size_t known = cache.find(key, &ready_[count_]);
    count_ += known;
    if (known > 0) return;
    const std::span<const std::int32_t> merged = merge(word);
    std::ranges::copy(merged, &ready_[count_]);
    count_ += merged.size();
    cache.keep(key, merged);
  }

  // Good until the next call.
  std::span<const std::int32_t> merge(std::string_view word) {
    word_.clear();
    for (const char c : word) word_.push_back(tables_.byte_tokens[static_cast<unsigned char>(c)]);
    return std::span(word_).first(merge_tokens(tables_.merges, word_));
  }

  void flush(std::vector<std::int32_t>& tokens) {
    tokens.insert(tokens.end(), ready_.begin(),
                  ready_.begin() + static_cast<std::ptrdiff_t>(count_));
    count_ = 0;
  }

  const BpeTables& tables_;
  Short short_;
  Long long_;
  std::array<std::int32_t, 1024> ready_;  // tokens to be appended in one go
  std::size_t count_ = 0;
  std::vector<std::int32_t> word_;
};

class BpeTokenizer final : public Tokenizer {
 public:
  BpeTokenizer(BpeVocabulary vocabulary, std::string name)
      : vocabulary_(std::move(vocabulary)), name_(std::move(name)), tables_(vocabulary_, name_) {}

  const BpeVocabulary& vocabulary() const { return vocabulary_; }

  std::string name() const override { return name_; }
  std::int64_t vocab() const override { return std::ssize(vocabulary_.tokens); }
  std::int32_t first_token() const override {
    return vocabulary_.end_of_text.value_or(tables_.byte_tokens['\n']);
  }
  std::optional<std::int32_t> end_of_text() const override { return vocabulary_.end_of_text; }
  std::string_view bytes(std::int32_t token) const override {
    if (token < 0 || token >= vocab()) return {};
    return vocabulary_.tokens[static_cast<std::size_t>(token)];
  }
  std::unique_ptr<Encoder> make_encoder() const override {
    return std::make_unique<BpeEncoder>(tables_);
  }

 private:
  BpeVocabulary vocabulary_;
  std::string name_;
  BpeTables tables_;
};

}  // namespace

std::shared_ptr<const Tokenizer> bpe_tokenizer(BpeVocabulary vocabulary, const std::string& name) {
  return std::make_shared<BpeTokenizer>(std::move(vocabulary), name);
}

const BpeVocabulary* bpe_vocabulary(const Tokenizer& tokenizer) {
  const auto* bpe = dynamic_cast<const BpeTokenizer*>(&tokenizer);
  return bpe == nullptr ? nullptr : &bpe->vocabulary();
}

}  // namespace lathe
