#include "lathe/tokenize.h"

#include <fmt/format.h>

#include <array>
#include <atomic>
#include <exception>
#include <limits>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "lathe/error.h"
#include "lathe/stop_signal.h"
#include "strict_json.h"
#include "text_reader.h"

namespace lathe {
namespace {

constexpr std::size_t kPiecesPerThread = 4;  // read, then encoded together

struct EncodedPiece {
  std::array<std::vector<std::uint16_t>, 2> tokens;  // by Part
  std::int64_t documents = 0;
  std::exception_ptr failure;
};

// Line n of JSON lines validates when the fraction of n lines passes a whole number there.
Part part_of_line(std::int64_t number, double fraction) {
  const auto validating = [&](std::int64_t n) {
    return static_cast<std::int64_t>(static_cast<double>(n) * fraction);
  };
  return validating(number) > validating(number - 1) ? Part::validation : Part::training;
}

class PieceEncoder {
 public:
  PieceEncoder(const TextSpec& spec, const Tokenizer& tokenizer)
      : spec_(spec), end_of_text_(tokenizer.end_of_text()), encoder_(tokenizer.make_encoder()) {}

  EncodedPiece encode(const TextPiece& piece) {
    EncodedPiece encoded;
    try {
      piece.is_lines ? encode_lines(piece, encoded) : encode_plain(piece, encoded);
    } catch (...) {
      encoded.failure = std::current_exception();
    }
    return encoded;
  }

 private:
  void encode_plain(const TextPiece& piece, EncodedPiece& encoded) {
    append(piece.text, piece.starts_document, piece.part, encoded);
  }

  void encode_lines(const TextPiece& piece, EncodedPiece& encoded) {
    const std::string_view text = piece.text;
    std::int64_t number = piece.first_line;
    for (std::size_t begin = 0; begin < text.size(); ++number) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      const std::string_view line = text.substr(begin, end - begin);
      begin = end + 1;
      if (line.find_first_not_of(" \t\r") == line.npos) continue;
      const std::string source = fmt::format("{}: line {}", piece.source, number);
      append(text_of(line, source), /*starts_document=*/true,
             part_of_line(number, spec_.validation_fraction), encoded);
    }
  }

  std::string text_of(std::string_view line, const std::string& source) const {
    const nlohmann::json document = parse_json(line, source, ExitCode::data);
    const auto field = document.is_object() ? document.find(spec_.text_field) : document.end();
    if (field == document.end() || !field->is_string()) {
      throw Error(ExitCode::data, fmt::format("{}: must be an object with a string {} "
                                              "(--text-field)",
                                              source, quote(spec_.text_field)));
    }
    return field->get<std::string>();
  }

  void append(std::string_view text, bool starts_document, Part part, EncodedPiece& encoded) {
    if (text.empty()) return;
    wide_.clear();
    if (starts_document) {
      ++encoded.documents;
      if (end_of_text_) wide_.push_back(*end_of_text_);
    }
    encoder_->encode(text, wide_);
    std::vector<std::uint16_t>& tokens = encoded.tokens[static_cast<std::size_t>(part)];
    tokens.insert(tokens.end(), wide_.begin(), wide_.end());
  }

  const TextSpec& spec_;
  std::optional<std::int32_t> end_of_text_;
  std::unique_ptr<Encoder> encoder_;
  std::vector<std::int32_t> wide_;
};

std::vector<TextPiece> read_pieces(TextReader& reader, std::size_t most) {
  std::vector<TextPiece> pieces;
  while (pieces.size() < most) {
    auto piece = reader.next();
    if (!piece) break;
    pieces.push_back(std::move(*piece));
  }
  return pieces;
}

// Each encoder takes the next piece that nobody has taken.
std::vector<EncodedPiece> encode_all(std::vector<PieceEncoder>& encoders,
                                     const std::vector<TextPiece>& pieces) {
  std::vector<EncodedPiece> encoded(pieces.size());
  std::atomic<std::size_t> next = 0;
  const auto work = [&](PieceEncoder& encoder) {
    for (std::size_t i = next++; i < pieces.size(); i = next++) {
      encoded[i] = encoder.encode(pieces[i]);
    }
  };
  std::vector<std::jthread> threads;
  for (std::size_t i = 1; i < encoders.size() && i < pieces.size(); ++i) {
    threads.emplace_back([&, i] { work(encoders[i]); });
  }
  work(encoders[0]);
  threads.clear();  // waits
  return encoded;
}

}  // namespace

bool tokenize(const TextSpec& spec, const Tokenizer& tokenizer, TokenSink& sink) {
  constexpr std::int64_t kMostIds = std::numeric_limits<std::uint16_t>::max() + 1;
  if (tokenizer.vocab() > kMostIds) {
    throw Error(ExitCode::usage,
                fmt::format("--tokenizer {}: has {} tokens; a shard holds ids below {}",
                            tokenizer.name(), tokenizer.vocab(), kMostIds));
  }
  TextReader reader(
      {.paths = spec.paths, .lines = spec.lines, .validation_fraction = spec.validation_fraction});
  std::vector<PieceEncoder> encoders;
  for (int i = 0; i < spec.threads; ++i) encoders.emplace_back(spec, tokenizer);

  std::int64_t documents = 0;
  for (;;) {
    const auto pieces = read_pieces(reader, kPiecesPerThread * encoders.size());
    if (stop_signal() != 0) return false;
    if (pieces.empty()) return true;
    for (const EncodedPiece& encoded : encode_all(encoders, pieces)) {
      if (encoded.failure) std::rethrow_exception(encoded.failure);
      for (const Part part : {Part::training, Part::validation}) {
        sink.append(encoded.tokens[static_cast<std::size_t>(part)], part);
      }
      documents += encoded.documents;
    }
    sink.progress(
        {.bytes = reader.bytes_read(), .documents = documents, .bytes_in_all = reader.bytes()});
  }
}

ShardSink::ShardSink(const ShardSpec& spec, Report report)
    : has_parts_(spec.has_parts),
      report_(std::move(report)),
      training_({.folder = spec.folder,
                 .prefix = "train",
                 .first_number = 1,
                 .shard_tokens = spec.shard_tokens}),
      validation_({.folder = spec.folder,
                   .prefix = "val",
                   .first_number = 0,
                   .shard_tokens = spec.shard_tokens}),
      first_shard_tokens_(spec.shard_tokens) {}

void ShardSink::append(std::span<const std::uint16_t> tokens, Part part) {
  if (has_parts_) return (part == Part::validation ? validation_ : training_).append(tokens);
  const std::int64_t room = first_shard_tokens_ - validation_.tokens();
  const auto first = tokens.first(std::min(static_cast<std::size_t>(room), tokens.size()));
  validation_.append(first);
  training_.append(tokens.subspan(first.size()));
}

void ShardSink::progress(const TokenizeProgress& progress) {
  report_(progress, counts());
}

void ShardSink::finish() {
  if (!has_parts_ && training_.tokens() == 0 && validation_.tokens() > 0) {
    validation_.move_first(validation_.tokens() / 10 * 9, training_);
  }
  training_.finish();
  validation_.finish();
}

ShardCounts ShardSink::counts() const {
  return {.training_tokens = training_.tokens(),
          .training_shards = training_.shards(),
          .validation_tokens = validation_.tokens(),
          .validation_shards = validation_.shards()};
}

std::vector<std::uint16_t> tokenize_in_memory(const TextSpec& spec, const Tokenizer& tokenizer,
                                              Part part) {
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

}  // namespace lathe
