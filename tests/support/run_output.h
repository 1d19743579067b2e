// What a run has left in its folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace lathe::test {

nlohmann::json result_of(const std::filesystem::path& run);

// Lines of metrics.jsonl that have `key`.
std::vector<nlohmann::json> lines_of(const std::filesystem::path& run, const std::string& key);
std::vector<double> values_of(const std::filesystem::path& run, const std::string& key);

std::filesystem::path checkpoint_of(const std::filesystem::path& run, std::int64_t step);
// Its files of tensors, one behind the other.
std::string tensors_of(const std::filesystem::path& run, std::int64_t step);

}  // namespace lathe::test
