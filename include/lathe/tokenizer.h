// How text becomes tokens, and tokens text. A tokenizer never changes once it is made, and may be
// used from several threads at once; encoding keeps memory of its own, in an Encoder per thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

class Encoder {
 public:
  virtual ~Encoder() = default;

  // Appends the tokens of `text`, any bytes at all: decoding them gives the same bytes.
  virtual void encode(std::string_view text, std::vector<std::int32_t>& tokens) = 0;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual std::string name() const = 0;    // what --tokenizer calls it: "bytes", "gpt2", a path
  virtual std::int64_t vocab() const = 0;  // ids are below it
  virtual std::int32_t first_token() const = 0;  // what stands before a text: the end of another

  // What stands before each document of a shard, and is no text; nullopt: there is none.
  virtual std::optional<std::int32_t> end_of_text() const = 0;

  // The bytes that a token stands for; "" for end_of_text and for ids that stand for nothing.
  virtual std::string_view bytes(std::int32_t token) const = 0;

  // Throws Error(usage) for a tokenizer that can only decode.
  virtual std::unique_ptr<Encoder> make_encoder() const = 0;
};

// One token for each byte.
std::shared_ptr<const Tokenizer> byte_tokenizer();

// What --tokenizer names: "bytes"; "gpt2", whose vocab.bpe is the file that LATHE_GPT2_VOCAB names
// or lathe/vocab.bpe in the cache folder (XDG_CACHE_HOME or ~/.cache), by its sha256; or a path: a
// vocab.bpe or merges.txt, a tokenizer.json, a folder with Hugging Face's tokenizer files, or
// llm.c's tokenizer .bin, which only decodes. Throws Error: usage where there is nothing of that
// name, data for a file that is not sound.
std::shared_ptr<const Tokenizer> open_tokenizer(const std::string& name);

std::vector<std::int32_t> encode(const Tokenizer& tokenizer, std::string_view text);
std::string decode(const Tokenizer& tokenizer, std::span<const std::int32_t> tokens);

}  // namespace lathe
