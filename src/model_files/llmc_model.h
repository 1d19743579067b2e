// llm.c's model files, versions 3 (fp32) and 5 (bf16): a header of 256 int32, then 16 tensors,
// those of the blocks stacked. The token table has padding rows, which Lathe writes as zeros and
// does not look at when it reads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lathe/files.h"
#include "lathe/model_config.h"
#include "lathe/model_source.h"

namespace lathe {

struct LlmcHeader {
  static constexpr std::int32_t kMagic = 20240326;
  static constexpr std::size_t kBytes = 1024;

  DType type;
  ModelConfig model;
  std::int64_t padded_vocab;  // rows of the token table in the file
};

// One of the 16 tensors: the same parameter of every block that has it, one after another. What is
// left of the token table behind its part is padding.
struct LlmcTensor {
  struct Part {
    const ParameterSpec* spec;
    std::uint64_t begin;  // byte of the file
  };
  std::string name;                 // llm.c's: "qkvw"
  std::vector<std::int64_t> shape;  // (L, 3C, C)
  std::uint64_t begin, end;         // bytes of the file
  std::vector<Part> parts;
};

// Reads the first bytes of a file of `file_bytes`, which must be what they say. `source`, the
// file's name, begins every message. Errors: checkpoint.
LlmcHeader parse_llmc_header(std::span<const std::byte> bytes, std::uint64_t file_bytes,
                             const std::string& source);

LlmcHeader read_llmc_header(const InputFile& file);

// Where everything is in a file of this header. `specs` are those of header.model and live longer.
std::vector<LlmcTensor> llmc_tensors(const LlmcHeader& header,
                                     const std::vector<ParameterSpec>& specs);

std::unique_ptr<ModelSource> open_llmc_model(const std::filesystem::path& path);

// Writes and syncs the file. Errors: storage, and those of the source.
void write_llmc_model(const ModelSource& source, DType type, const std::filesystem::path& path);

}  // namespace lathe
