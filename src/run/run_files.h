// Files in a run's folder that more than one part of the program knows, and how they are read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace lathe {

inline constexpr const char* kConfigFile = "config.toml";
inline constexpr const char* kRankLogPrefix = "rank-";  // rank-0003.log
inline constexpr const char* kMetricsFile = "metrics.jsonl";
inline constexpr const char* kResultFile = "result.json";
inline constexpr const char* kSessionFile = "env.json";

// So that one damaged file cannot take the memory that all other runs are listed with. Error(data).
std::string read_at_most(const std::filesystem::path& path, std::uint64_t bytes);

// The object in a result.json, with its keys in the order of the file. Error(data) where there is
// none.
nlohmann::ordered_json read_result(const std::filesystem::path& path);

// Why the run ended, of one whose result.json says that it has finished; else, and of a damaged
// one, "".
std::string end_reason(const std::filesystem::path& run_folder);

}  // namespace lathe
