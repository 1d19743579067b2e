// Names in a run's folder that more than one file of src/run knows.
#pragma once

namespace lathe {

inline constexpr const char* kConfigFile = "config.toml";
inline constexpr const char* kMetricsFile = "metrics.jsonl";
inline constexpr const char* kResultFile = "result.json";
inline constexpr const char* kSessionFile = "env.json";

}  // namespace lathe
