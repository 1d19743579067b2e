#include "lathe/model_source.h"

#include <algorithm>

#include "lathe_model.h"

namespace lathe {

std::string_view title(ModelFormat format) {
  switch (format) {
    case ModelFormat::lathe:
      return "Lathe model";
    case ModelFormat::hugging_face:
      return "Hugging Face GPT-2";
    case ModelFormat::llmc:
      return "llm.c model";
  }
  return "unknown";
}

std::unique_ptr<ModelSource> open_model(const std::filesystem::path& path, Weights weights) {
  return open_lathe_model(path, weights);
}

void for_each_rows(const ParameterSpec& spec,
                   const std::function<void(const ParameterRows&)>& visit) {
  constexpr std::int64_t kPiece = std::int64_t{1} << 22;  // elements
  const std::int64_t rows = spec.shape[0];
  const std::int64_t at_once = std::max<std::int64_t>(1, kPiece / (spec.count() / rows));
  for (std::int64_t first = 0; first < rows; first += at_once) {
    visit({.spec = &spec, .first = first, .count = std::min(at_once, rows - first)});
  }
}

}  // namespace lathe
