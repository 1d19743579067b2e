#include "support/run_output.h"
#include "support/json.h"

#include <fmt/format.h>

#include <sstream>

#include "support/temp_dir.h"

namespace lathe::test {

nlohmann::json result_of(const std::filesystem::path& run) {
  return parse_json(read_file(run / "result.json"));
}

std::vector<nlohmann::json> lines_of(const std::filesystem::path& run, const std::string& key) {
  std::vector<nlohmann::json> found;
  std::istringstream text(read_file(run / "metrics.jsonl"));
  for (std::string line; std::getline(text, line);) {
    auto json = parse_json(line);
    if (json.contains(key)) found.push_back(std::move(json));
  }
  return found;
}

std::vector<double> values_of(const std::filesystem::path& run, const std::string& key) {
  std::vector<double> values;
  for (const auto& line : lines_of(run, key)) values.push_back(line.at(key).get<double>());
  return values;
}

std::filesystem::path checkpoint_of(const std::filesystem::path& run, std::int64_t step) {
  return run / "checkpoints" / fmt::format("step-{:08}", step);
}

std::string tensors_of(const std::filesystem::path& run, std::int64_t step) {
  const auto folder = checkpoint_of(run, step);
  return read_file(folder / "model.safetensors") + read_file(folder / "optimizer.safetensors");
}

}  // namespace lathe::test
