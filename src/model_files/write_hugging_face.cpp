// Writing: tensors by the order of their names, as save_pretrained does, so that equal tensors
// leave equal files.
#include <fmt/format.h>

#include <algorithm>

#include "hugging_face.h"
#include "hugging_face_config.h"
#include "lathe/bpe.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "lathe/safetensors.h"
#include "lathe/tokenizer.h"
#include "transpose.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

void write_text(const fs::path& path, std::string_view text) {
  OutputFile file(path);
  file.write(text);
  file.sync();
  file.close();
}

// One parameter in their layout.
void append_parameter(SafetensorsWriter& writer, const ModelSource& source,
                      const ParameterSpec& spec, DType type) {
  const auto read = [&](const ParameterRows& rows) {
    std::vector<std::byte> values(static_cast<std::size_t>(rows.elements() * size_of(type)));
    source.read(rows, type, values);
    return values;
  };
  if (!hugging_face_tensor(spec).is_transposed) {
    for_each_rows(spec, [&](const ParameterRows& rows) { writer.append(read(rows)); });
    return;
  }
  const std::int64_t out = spec.shape[0], in = spec.shape[1];
  const auto values = read({.spec = &spec, .first = 0, .count = out});
  std::vector<std::byte> transposed(values.size());
  transpose(values, out, in, size_of(type), transposed);
  writer.append(transposed);
}

void write_tensors(const ModelSource& source, DType type, const fs::path& path) {
  const std::vector<ParameterSpec> specs = parameter_specs(source.info().config);
  std::vector<std::pair<std::string, const ParameterSpec*>> by_name;
  for (const ParameterSpec& spec : specs) {
    by_name.emplace_back(std::string(kHuggingFacePrefix) + hugging_face_tensor(spec).name, &spec);
  }
  std::sort(by_name.begin(), by_name.end());
  std::vector<TensorEntry> entries;
  for (const auto& [name, spec] : by_name) {
    entries.push_back({.name = name, .type = type, .shape = hugging_face_shape(*spec)});
  }
  // transformers wants to know what the tensors were before; it takes "pt", PyTorch, for plain
  // ones.
  SafetensorsWriter writer(path, entries, {{"format", "pt"}});
  for (const auto& [name, spec] : by_name) append_parameter(writer, source, *spec, type);
  writer.finish();
}

void copy_whole(const fs::path& from, const fs::path& to) {
  write_text(to, read_file(from, ExitCode::checkpoint));
}

// What is said when there is none. Settings of a tokenizer come along, but are none.
std::vector<std::string> write_tokenizer(const ModelInfo& info, const fs::path& folder) {
  if (info.format == ModelFormat::hugging_face) {
    const std::vector<std::string> names = tokenizer_files(info.path);
    for (const std::string& name : names) copy_whole(info.path / name, folder / name);
    if (has_tokenizer(info.path)) return {};
  }
  if (info.tokenizer == "none") {
    return {fmt::format("without tokenizer files: {} does not say what its tokens are",
                        info.path.string())};
  }
  try {
    write_tokenizer_files(*open_tokenizer(info.tokenizer), folder);
    return {};
  } catch (const Error& error) {
    if (error.code() == ExitCode::storage) throw;
    return {fmt::format("without tokenizer files: {}", error.what())};
  }
}

}  // namespace

std::vector<std::string> write_hugging_face_model(const ModelSource& source, DType type,
                                                  const fs::path& folder) {
  const ModelInfo& info = source.info();
  write_tensors(source, type, folder / kHuggingFaceModel);
  write_text(folder / kHuggingFaceConfig, hugging_face_config_text(info, type));
  std::error_code ignored;
  if (info.format == ModelFormat::hugging_face &&
      fs::exists(info.path / kHuggingFaceGeneration, ignored)) {
    copy_whole(info.path / kHuggingFaceGeneration, folder / kHuggingFaceGeneration);
  } else {
    write_text(folder / kHuggingFaceGeneration, generation_config_text(info));
  }
  return write_tokenizer(info, folder);
}

}  // namespace lathe
