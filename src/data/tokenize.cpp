#include "lathe/tokenize.h"

#include <fmt/format.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "base/strict_json.h"
#include "lathe/error.h"
#include "lathe/stop_signal.h"
#include "shard_format.h"
#include "text_reader.h"

namespace lathe {
namespace {

struct EncodedPiece {
  std::array<std::vector<std::uint16_t>, 2> tokens;  // by Part
  std::int64_t documents = 0;
  std::exception_ptr failure;
};

// Line or document n validates when the fraction of n passes a whole number there.
Part part_of(std::int64_t number, double fraction) {
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
      switch (piece.documents) {
        case Documents::file:
          append(piece.text, piece.starts_document, piece.part, encoded);
          break;
        case Documents::separated:
          encode_separated(piece, encoded);
          break;
        case Documents::lines:
          encode_lines(piece, encoded);
          break;
      }
    } catch (...) {
      encoded.failure = std::current_exception();
    }
    return encoded;
  }

 private:
  void encode_separated(const TextPiece& piece, EncodedPiece& encoded) {
    std::int64_t number = piece.first_number;
    bool starts_document = piece.starts_document;
    for (const std::string_view text : divide(piece.text, spec_.document_separator)) {
      append(text, starts_document, part_of(number++, spec_.validation_fraction), encoded);
      starts_document = true;
    }
  }

  void encode_lines(const TextPiece& piece, EncodedPiece& encoded) {
    const std::string_view text = piece.text;
    std::int64_t number = piece.first_number;
    for (std::size_t begin = 0; begin < text.size(); ++number) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      const std::string_view line = text.substr(begin, end - begin);
      begin = end + 1;
      if (line.find_first_not_of(" \t\r") == line.npos) continue;
      const std::string source = fmt::format("{}: line {}", piece.source, number);
      append(text_of(line, source), /*starts_document=*/true,
             part_of(number, spec_.validation_fraction), encoded);
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

// Threads that each take the next piece of text, encode it, and wait for their turn to give it out.
class Pipeline {
 public:
  Pipeline(const TextSpec& spec, const Tokenizer& tokenizer, TokenSink& sink)
      : spec_(spec),
        tokenizer_(tokenizer),
        sink_(sink),
        reader_({.paths = spec.paths,
                 .lines = spec.lines,
                 .document_separator = spec.document_separator,
                 .validation_fraction = spec.validation_fraction,
                 .piece_bytes = spec.piece_bytes}) {}

  void run() {
    std::vector<PieceEncoder> encoders;
    for (int i = 0; i < spec_.threads; ++i) encoders.emplace_back(spec_, tokenizer_);
    {
      std::vector<std::jthread> threads;
      for (PieceEncoder& encoder : std::span(encoders).subspan(1)) {
        threads.emplace_back([&] { work(encoder); });
      }
      work(encoders[0]);
    }
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  struct Taken {
    std::int64_t number;  // in the order of the text
    std::int64_t bytes;   // read, with this piece
    TextPiece piece;
    std::exception_ptr failure;
  };

  void work(PieceEncoder& encoder) {
    while (const auto taken = take()) {
      EncodedPiece encoded;
      encoded.failure = taken->failure;
      if (!encoded.failure) encoded = encoder.encode(taken->piece);
      give_out(*taken, encoded);
    }
  }

  std::optional<Taken> take() {
    const std::lock_guard lock(reading_);
    if (at_end_) return std::nullopt;
    Taken taken{.number = pieces_++, .bytes = 0, .piece = {}, .failure = nullptr};
    try {
      auto piece = reader_.next();
      if (!piece) at_end_ = true;  // never false again: giving out may have failed meanwhile
      if (at_end_) return std::nullopt;
      taken.piece = std::move(*piece);
      taken.bytes = reader_.bytes_read();
    } catch (...) {
      at_end_ = true;
      taken.failure = std::current_exception();
    }
    return taken;
  }

  // What has failed first in the order of the text is the failure of it all.
  void give_out(const Taken& taken, const EncodedPiece& encoded) {
    std::unique_lock lock(writing_);
    turn_.wait(lock, [&] { return turn_number_ == taken.number || failure_; });
    if (failure_) return;
    try {
      if (encoded.failure) std::rethrow_exception(encoded.failure);
      for (const Part part : {Part::training, Part::validation}) {
        sink_.append(encoded.tokens[static_cast<std::size_t>(part)], part);
      }
      documents_ += encoded.documents;
      sink_.progress(
          {.bytes = taken.bytes, .documents = documents_, .bytes_in_all = reader_.bytes()});
    } catch (...) {
      failure_ = std::current_exception();
      at_end_ = true;
      reader_.stop();
    }
    ++turn_number_;
    turn_.notify_all();
  }

  const TextSpec& spec_;
  const Tokenizer& tokenizer_;
  TokenSink& sink_;

  std::mutex reading_;
  TextReader reader_;
  std::int64_t pieces_ = 0;
  std::atomic<bool> at_end_ = false;

  std::mutex writing_;
  std::condition_variable turn_;
  std::int64_t turn_number_ = 0, documents_ = 0;
  std::exception_ptr failure_;
};

}  // namespace

bool has_json_lines(const TextSpec& spec, const std::string& path) {
  return spec.lines.value_or(path.ends_with(kJsonLinesEnding));
}

bool tokenize(const TextSpec& spec, const Tokenizer& tokenizer, TokenSink& sink) {
  if (tokenizer.vocab() > ShardHeader::kMostIds) {
    throw Error(ExitCode::usage,
                fmt::format("--tokenizer {}: has {} tokens; a shard holds ids below {}",
                            tokenizer.name(), tokenizer.vocab(), ShardHeader::kMostIds));
  }
  Pipeline(spec, tokenizer, sink).run();
  return !is_stop_requested();
}

ShardSink::ShardSink(const ShardSpec& spec, Report report)
    : spec_(spec),
      report_(std::move(report)),
      training_({.folder = spec.folder,
                 .prefix = kTrainPrefix,
                 .first_number = kFirstTrainShard,
                 .shard_tokens = spec.shard_tokens}),
      validation_({.folder = spec.folder,
                   .prefix = kValPrefix,
                   .first_number = kFirstValShard,
                   .shard_tokens = spec.shard_tokens}) {}

void ShardSink::append(std::span<const std::uint16_t> tokens, Part part) {
  if (spec_.has_parts) return (part == Part::validation ? validation_ : training_).append(tokens);
  const std::int64_t room = spec_.shard_tokens - validation_.tokens();
  const auto first = tokens.first(std::min(static_cast<std::size_t>(room), tokens.size()));
  validation_.append(first);
  training_.append(tokens.subspan(first.size()));
}

void ShardSink::progress(const TokenizeProgress& progress) {
  last_progress_ = progress;
  report_(progress);
}

void ShardSink::finish() {
  const bool has_one_shard = training_.tokens() == 0 && validation_.tokens() > 0;
  if (!spec_.has_parts && has_one_shard) {
    validation_.move_first(validation_.tokens() - validation_.tokens() / 10, training_);
  }
  training_.finish();
  validation_.finish();
}

DatasetPart ShardSink::train() const {
  return {.tokens = training_.tokens(), .shards = training_.shards()};
}

DatasetPart ShardSink::val() const {
  return {.tokens = validation_.tokens(), .shards = validation_.shards()};
}

Dataset describe_dataset(const TextSpec& spec, const Tokenizer& tokenizer, const ShardSink& sink) {
  return {.tokenizer = saved_tokenizer_name(tokenizer),
          .vocab = tokenizer.vocab(),
          .end_of_text = tokenizer.end_of_text(),
          .bytes = sink.last_progress().bytes,
          .documents = sink.last_progress().documents,
          .train = sink.train(),
          .val = sink.val(),
          .sources = spec.paths};
}

}  // namespace lathe
