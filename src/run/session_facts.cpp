#include "session_facts.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string_view>
#include <utility>

#include "lathe/cuda.h"
#include "lathe/version.h"

namespace lathe {
namespace {

using nlohmann::ordered_json;

// A file of the system's, which has no size; "" where there is none.
std::string system_file(const char* path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::string trim(std::string_view text, std::string_view characters) {
  const std::size_t first = text.find_first_not_of(characters);
  if (first == text.npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(characters) - first + 1));
}

// "model name : AMD EPYC", of /proc/cpuinfo and its like, as two texts.
std::pair<std::string, std::string> key_and_value(const std::string& line, char separator) {
  const std::size_t at = std::min(line.find(separator), line.size());
  return {trim(line.substr(0, at), " \t"),
          trim(line.substr(std::min(at + 1, line.size())), " \t\"")};
}

ordered_json cpu_facts() {
  std::istringstream lines(system_file("/proc/cpuinfo"));
  std::string model, package;
  std::set<std::pair<std::string, std::string>> cores;  // package, core of it
  for (std::string line; std::getline(lines, line);) {
    const auto [key, value] = key_and_value(line, ':');
    if (key == "model name") model = value;
    if (key == "physical id") package = value;
    if (key == "core id") cores.emplace(package, value);
  }
  return {{"model", text_or_null(model)},
          {"cores", cores.empty() ? ordered_json(nullptr) : ordered_json(cores.size())},
          {"threads", sysconf(_SC_NPROCESSORS_ONLN)}};
}

std::string distribution() {
  std::istringstream lines(system_file("/etc/os-release"));
  for (std::string line; std::getline(lines, line);) {
    const auto [key, value] = key_and_value(line, '=');
    if (key == "PRETTY_NAME") return value;
  }
  return "";
}

std::string kernel() {
  utsname system = {};
  if (uname(&system) != 0) return "";
  return fmt::format("{} {} {}", system.sysname, system.release, system.machine);
}

ordered_json command_line() {
  ordered_json arguments = ordered_json::array();
  std::istringstream stream(system_file("/proc/self/cmdline"));
  for (std::string argument; std::getline(stream, argument, '\0');) arguments.push_back(argument);
  return arguments;
}

// Of the environment only what changes how Lathe runs, or says which job it is: the rest may hold
// secrets.
bool is_told(std::string_view name) {
  constexpr std::array<std::string_view, 4> kNames = {"CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID",
                                                      "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"};
  return name.starts_with("LATHE_") || name.starts_with("OMP_") ||
         std::ranges::find(kNames, name) != kNames.end();
}

ordered_json environment() {
  ordered_json variables = ordered_json::object();
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::size_t equals = text.find('=');
    if (equals == text.npos || !is_told(text.substr(0, equals))) continue;
    variables[std::string(text.substr(0, equals))] = text.substr(equals + 1);
  }
  return variables;
}

std::string working_folder() {
  std::error_code ignored;
  return std::filesystem::current_path(ignored).string();
}

}  // namespace

ordered_json text_or_null(const std::string& text) {
  return text.empty() ? ordered_json(nullptr) : ordered_json(text);
}

ordered_json session_facts(const SessionSpec& session) {
  return {
      {"session", session.number},
      {"started", session.started},
      {"command", command_line()},
      {"folder", working_folder()},
      {"environment", environment()},
      {"hostname", host_name()},
      {"pid", getpid()},
      {"version", version()},
      {"build", {{"compiler", compiler()}, {"type", build_type()}, {"cuda", built_with_cuda()}}},
      {"device", session.device},
      {"threads", session.threads},
      {"cpu", cpu_facts()},
      {"memory_bytes", std::int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE)},
      {"kernel", text_or_null(kernel())},
      {"distribution", text_or_null(distribution())}};
}

std::string utc_now() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

std::optional<std::int64_t> utc_seconds(const std::string& text) {
  std::tm time = {};
  const char* end = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%SZ", &time);
  if (end == nullptr || *end != '\0') return std::nullopt;
  return timegm(&time);
}

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

}  // namespace lathe
