#include "llmc_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "lathe/error.h"
#include "lathe/files.h"
#include "lathe/stored_type.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

using Words = std::array<std::int32_t, LlmcHeader::kBytes / sizeof(std::int32_t)>;
enum Word : std::size_t { magic, version, context, vocab, layers, heads, channels, padded_vocab };
constexpr std::int32_t kVersionFp32 = 3, kVersionBf16 = 5;

// llm.c's order, and our names; of blocks without "blocks.i.".
struct Name {
  std::string_view theirs, ours;
};
constexpr Name kOrder[] = {
    {"wte", "token_embedding.weight"},
    {"wpe", "position_embedding.weight"},
    {"ln1w", "ln1.gain"},
    {"ln1b", "ln1.bias"},
    {"qkvw", "attention.qkv.weight"},
    {"qkvb", "attention.qkv.bias"},
    {"attprojw", "attention.proj.weight"},
    {"attprojb", "attention.proj.bias"},
    {"ln2w", "ln2.gain"},
    {"ln2b", "ln2.bias"},
    {"fcw", "mlp.fc.weight"},
    {"fcb", "mlp.fc.bias"},
    {"fcprojw", "mlp.proj.weight"},
    {"fcprojb", "mlp.proj.bias"},
    {"lnfw", "final_ln.gain"},
    {"lnfb", "final_ln.bias"},
};

std::string name_in_block(const ParameterSpec& spec) {
  const std::string block = fmt::format("blocks.{}.", spec.block);
  return spec.name.starts_with(block) ? spec.name.substr(block.size()) : spec.name;
}

// Sizes that are read from a file say where they stood in it.
constexpr SizeNames kHeaderNames = {.layers = "byte 16: layers",
                                    .heads = "byte 20: heads",
                                    .channels = "byte 24: channels",
                                    .context = "byte 8: positions",
                                    .vocab = "byte 12: vocabulary"};

class LlmcModel final : public ModelSource {
 public:
  LlmcModel(ModelInfo info, InputFile file, const LlmcHeader& header)
      : ModelSource(std::move(info)), file_(std::move(file)), type_(stored_type(header.type)) {
    const std::vector<ParameterSpec> specs = parameter_specs(header.model);
    for (const LlmcTensor& tensor : llmc_tensors(header, specs)) {
      for (const auto& [spec, begin] : tensor.parts) begins_[spec->name] = begin;
    }
  }

  void read(const ParameterRows& rows, DType type, std::span<std::byte> to) const override {
    const std::int64_t row_bytes = rows.spec->count() / rows.spec->shape[0] * size_of(type_);
    std::vector<std::byte> stored(static_cast<std::size_t>(rows.count * row_bytes));
    file_.read(begins_.at(rows.spec->name) + static_cast<std::uint64_t>(rows.first * row_bytes),
               stored);
    convert_elements(type_, stored, type, to);
  }

 private:
  InputFile file_;
  StoredType type_;
  std::map<std::string, std::uint64_t> begins_;  // bytes of the file, by parameter
};

void write_zeros(OutputFile& file, std::uint64_t bytes) {
  constexpr std::uint64_t kPiece = 1 << 20;
  const std::vector<std::byte> zeros(std::min(bytes, kPiece));
  for (std::uint64_t left = bytes; left > 0; left -= std::min(left, kPiece)) {
    file.write(std::span(zeros).first(std::min(left, kPiece)));
  }
}

Words header_words(const LlmcHeader& header) {
  Words words = {};
  words[magic] = LlmcHeader::kMagic;
  words[version] = header.type == DType::bf16 ? kVersionBf16 : kVersionFp32;
  words[context] = static_cast<std::int32_t>(header.model.context);
  words[vocab] = static_cast<std::int32_t>(header.model.vocab);
  words[layers] = static_cast<std::int32_t>(header.model.layers);
  words[heads] = static_cast<std::int32_t>(header.model.heads);
  words[channels] = static_cast<std::int32_t>(header.model.channels);
  words[padded_vocab] = static_cast<std::int32_t>(header.padded_vocab);
  return words;
}

}  // namespace

LlmcHeader parse_llmc_header(std::span<const std::byte> bytes, std::uint64_t file_bytes,
                             const std::string& source) {
  const auto refuse = [&](const std::string& message) {
    throw Error(ExitCode::checkpoint, fmt::format("{}: {}", source, message));
  };
  Words words;
  if (bytes.size() < sizeof words) {
    refuse(
        fmt::format("{} bytes, a model file of llm.c has at least {}", bytes.size(), sizeof words));
  }
  std::memcpy(words.data(), bytes.data(), sizeof words);
  if (words[magic] != LlmcHeader::kMagic) {
    refuse(fmt::format("byte 0: magic number {}, that of llm.c's models is {}", words[magic],
                       LlmcHeader::kMagic));
  }
  if (words[version] != kVersionFp32 && words[version] != kVersionBf16) {
    refuse(fmt::format("byte 4: version {}, must be {} (fp32) or {} (bf16)", words[version],
                       kVersionFp32, kVersionBf16));
  }
  const LlmcHeader header{.type = words[version] == kVersionBf16 ? DType::bf16 : DType::fp32,
                          .model = {.layers = words[layers],
                                    .heads = words[heads],
                                    .channels = words[channels],
                                    .context = words[context],
                                    .vocab = words[vocab]},
                          .padded_vocab = words[padded_vocab]};
  if (const auto problem = find_size_problem(header.model, kHeaderNames)) refuse(*problem);
  if (header.padded_vocab < header.model.vocab || header.padded_vocab > kMostVocab) {
    refuse(fmt::format("byte 28: padded vocabulary {}, must be between the vocabulary, {}, and {}",
                       header.padded_vocab, header.model.vocab, kMostVocab));
  }
  const std::vector<ParameterSpec> specs = parameter_specs(header.model);
  if (const std::uint64_t end = llmc_tensors(header, specs).back().end; end != file_bytes) {
    refuse(fmt::format("{} bytes, its header makes it {}", file_bytes, end));
  }
  return header;
}

LlmcHeader read_llmc_header(const InputFile& file) {
  std::vector<std::byte> start(std::min<std::uint64_t>(file.size(), LlmcHeader::kBytes));
  file.read(0, start);
  return parse_llmc_header(start, file.size(), file.path().string());
}

std::vector<LlmcTensor> llmc_tensors(const LlmcHeader& header,
                                     const std::vector<ParameterSpec>& specs) {
  std::map<std::string, std::vector<const ParameterSpec*>> by_name;
  for (const ParameterSpec& spec : specs) by_name[name_in_block(spec)].push_back(&spec);
  const auto element = static_cast<std::uint64_t>(size_of(header.type));
  std::vector<LlmcTensor> tensors;
  std::uint64_t end = LlmcHeader::kBytes;
  for (const auto& [theirs, ours] : kOrder) {
    const std::vector<const ParameterSpec*>& parameters = by_name.at(std::string(ours));
    const ParameterSpec& first = *parameters.front();
    LlmcTensor tensor{
        .name = std::string(theirs), .shape = first.shape, .begin = end, .end = 0, .parts = {}};
    if (&first == &specs.front()) tensor.shape[0] = header.padded_vocab;
    const bool is_stacked = first.name != ours;
    if (is_stacked) tensor.shape.insert(tensor.shape.begin(), header.model.layers);
    for (const ParameterSpec* spec : parameters) {
      tensor.parts.push_back({.spec = spec, .begin = end});
      end += static_cast<std::uint64_t>(spec->count()) * element;
    }
    if (&first == &specs.front()) {
      end += static_cast<std::uint64_t>((header.padded_vocab - header.model.vocab) *
                                        header.model.channels) *
             element;
    }
    tensor.end = end;
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

std::unique_ptr<ModelSource> open_llmc_model(const fs::path& path) {
  InputFile file(path, ExitCode::checkpoint);
  const LlmcHeader header = read_llmc_header(file);
  ModelInfo info{.format = ModelFormat::llmc,
                 .path = path,
                 .config = header.model,
                 .precision = header.type == DType::bf16 ? "bf16" : "fp32",
                 .tokenizer = "none",
                 .end_of_text = std::nullopt,
                 .begin_of_text = std::nullopt,
                 .step = std::nullopt,
                 .remarks = {}};
  assume_gpt2_tokens(info);
  return std::make_unique<LlmcModel>(std::move(info), std::move(file), header);
}

void write_llmc_model(const ModelSource& source, DType type, const fs::path& path) {
  const ModelConfig& model = source.info().config;
  const LlmcHeader header{.type = type, .model = model, .padded_vocab = model.padded_vocab()};
  OutputFile file(path);
  const Words words = header_words(header);
  file.write(std::as_bytes(std::span(words)));
  std::uint64_t written = LlmcHeader::kBytes;
  std::vector<std::byte> piece;
  const std::vector<ParameterSpec> specs = parameter_specs(model);
  for (const LlmcTensor& tensor : llmc_tensors(header, specs)) {
    for (const LlmcTensor::Part& part : tensor.parts) {
      for_each_rows(*part.spec, [&](const ParameterRows& rows) {
        piece.resize(static_cast<std::size_t>(rows.elements() * size_of(type)));
        source.read(rows, type, piece);
        file.write(piece);
        written += piece.size();
      });
    }
    write_zeros(file, tensor.end - written);
    written = tensor.end;
  }
  file.sync();
  file.close();
}

}  // namespace lathe
