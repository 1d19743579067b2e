// result.json and env.json of a run's folder.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "lathe/run_folder.h"
#include "lathe/version.h"
#include "run_files.h"
#include "session_facts.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

// For people and for other programs: names may hold bytes that are no UTF-8.
std::string json_text(const ordered_json& object) {
  return object.dump(2, ' ', /*ensure_ascii=*/false, ordered_json::error_handler_t::replace) + "\n";
}

// The number of the session that comes after the one of `path`, an env.json that may be anything.
std::int64_t next_session(const fs::path& path) {
  if (!fs::exists(path)) return 1;
  const auto before = nlohmann::json::parse(read_file(path, ExitCode::storage), nullptr,
                                            /*allow_exceptions=*/false);
  const auto number = before.is_object() ? before.find("session") : before.end();
  constexpr std::int64_t kMost = 1'000'000'000;
  const bool is_number = number != before.end() && number->is_number_integer();
  return is_number ? std::clamp<std::int64_t>(number->get<std::int64_t>(), 0, kMost) + 1 : 1;
}

ordered_json or_null(const std::optional<double>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

}  // namespace

void RunFolder::write_session(const std::string& device, std::int64_t threads) {
  if (!writes_) return;
  const std::int64_t number = next_session(folder_ / kSessionFile);
  write_file_atomically(
      folder_ / kSessionFile,
      json_text(session_facts(
          {.number = number, .device = device, .threads = threads, .started = started_})));
}

void RunFolder::write_result(const RunResult& r) {
  const ordered_json json = {
      {"status", r.status},
      {"exit_code", r.status == "running" ? ordered_json(nullptr) : ordered_json(r.exit_code)},
      {"error", text_or_null(r.error)},
      {"end_reason", text_or_null(r.end_reason)},
      {"end_detail", text_or_null(r.end_detail)},
      {"step", r.step},
      {"steps", r.steps},
      {"tokens", r.tokens},
      {"skipped_steps", r.skipped_steps},
      {"rollbacks", r.rollbacks},
      {"train_loss", or_null(r.train_loss)},
      {"val_loss", or_null(r.val_loss)},
      {"best_val_loss", or_null(r.best_val_loss)},
      {"best_val_step", r.best_val_step},
      {"val_floor", or_null(r.floor)},
      {"val_floor_standard_error", or_null(r.floor_standard_error)},
      {"tokens_per_second", r.tokens_per_second},
      {"wall_seconds", r.wall_seconds},
      {"peak_memory_bytes", r.peak_memory_bytes},
      {"parameters", r.parameters},
      {"seed", r.seed},
      {"precision", r.precision},
      {"device", r.device},
      {"failed_saves", r.failed_saves},
      {"checkpoint", text_or_null(r.checkpoint)},
      {"config_hash", config_hash_},
      {"hostname", host_name()},
      {"pid", getpid()},
      {"started", started_},
      {"version", version()}};
  sync_metrics();
  write_soon(folder_ / kResultFile, json_text(json));
}

}  // namespace lathe
