// env.json: where and how a session of a run was started, of a run's process what no option says.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

namespace lathe {

struct SessionSpec {
  std::int64_t number;  // 1: the run's first
  std::string device;   // Backend::description()
  std::int64_t threads;
  std::string started;  // utc_now()
};

nlohmann::ordered_json session_facts(const SessionSpec& session);

nlohmann::ordered_json text_or_null(const std::string& text);  // null for ""

std::string utc_now();  // "2026-11-25T04:43:00Z"
// Seconds since 1970 of such a text.
std::optional<std::int64_t> utc_seconds(const std::string& text);
std::string host_name();  // "" where the system has none

}  // namespace lathe
