// What is done with a file that was opened, the same for every format of its kind: a reader that
// opens a damaged file must also read it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "lathe/model_source.h"
#include "lathe/tokenizer.h"

namespace lathe::fuzz {

// Every value of every parameter.
inline void read_values(const ModelSource& model) {
  for (const ParameterSpec& spec : parameter_specs(model.info().config)) {
    for_each_rows(spec, [&](const ParameterRows& rows) {
      std::vector<std::byte> values(static_cast<std::size_t>(rows.elements() * 4));
      model.read(rows, DType::fp32, values);
    });
  }
}

// Any bytes come back from their tokens.
inline void encode_and_decode(const std::filesystem::path& path, const std::string& text) {
  const auto tokenizer = open_tokenizer(path.string());
  if (decode(*tokenizer, encode(*tokenizer, text)) != text) {
    throw std::logic_error("a text does not come back from its tokens");
  }
}

}  // namespace lathe::fuzz
