// What a run's folder says of the run, at any moment of its life: whether it runs, how far it is,
// how good it is, with which options. Nothing here waits for the run or holds it up.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "options/option_sources.h"

namespace lathe {

struct RunSummary {
  std::string name, path;
  // "status", then the keys of result.json. As long as a run has not ended, what metrics.jsonl
  // knows better is from there.
  nlohmann::ordered_json facts;
  nlohmann::ordered_json options;     // config.toml, by name
  std::vector<std::string> problems;  // files that cannot be read, in words
};

// With its type; text that is no number where one belongs stays text.
nlohmann::ordered_json option_value(const Setting& setting);

bool is_run(const std::filesystem::path& folder);

// Of a folder that is_run; the name is left empty. Damaged files become problems.
RunSummary summarize_run(const std::filesystem::path& folder);

}  // namespace lathe
