#include "checkpoint_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <vector>

#include "base/strict_json.h"

namespace lathe {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::string_view kFormat = "lathe checkpoint";
constexpr std::uint64_t kVersion = 3;         // the newest; with parts of files
constexpr std::uint64_t kVersionOfWhole = 2;  // without
constexpr std::uint64_t kMostStateBytes = 1 << 24;

std::uint64_t checksum_of(std::string_view text) {
  Checksum checksum;
  checksum.update(std::as_bytes(std::span(text)));
  return checksum.value();
}

// Checksums are text: a JSON number of 64 bits is more than many readers keep.
std::string checksum_text(std::uint64_t checksum) {
  return fmt::format("{:016x}", checksum);
}

ordered_json digest_json(const FileDigest& digest) {
  return {{"bytes", digest.bytes}, {"xxh3", checksum_text(digest.xxh3)}};
}

ordered_json digests_json(const std::vector<FileDigest>& parts) {
  if (parts.size() == 1) return digest_json(parts.front());
  ordered_json digests = {{"bytes", bytes_of(parts)}};
  for (const FileDigest& part : parts) digests["parts"].push_back(digest_json(part));
  return digests;
}

bool has_parts(const CheckpointState& state) {
  return std::ranges::any_of(state.files, [](const auto& file) { return file.second.size() > 1; });
}

// What follows `lines` in a file that is whole.
std::string last_lines(std::string_view lines) {
  return fmt::format(",\n  \"checksum\": \"{}\"\n}}\n", checksum_text(checksum_of(lines)));
}

template <class Value>
ordered_json to_json(const Value& value) {
  if constexpr (std::same_as<Value, std::optional<double>>) {
    return value ? ordered_json(*value) : ordered_json(nullptr);
  } else if constexpr (HasFields<const Value>) {
    ordered_json object;
    visit_fields(value, [&](const char* name, const auto& field, auto...) {
      object[name] = to_json(field);
    });
    return object;
  } else {
    return value;
  }
}

// Reads fields out of a parsed state.json, refusing what is absent or of another kind.
class StateReader {
 public:
  explicit StateReader(const std::filesystem::path& path) : path_(path.string()) {}

  [[noreturn]] void refuse(const std::string& message) const {
    throw Error(ExitCode::checkpoint, fmt::format("{}: {}", path_, message));
  }

  const json& at(const json& object, const char* name) const {
    if (!object.is_object() || !object.contains(name)) refuse(fmt::format("has no \"{}\"", name));
    return object.at(name);
  }

  void read(const json& object, const char* name, std::int64_t& to) const {
    std::uint64_t value = 0;
    read(object, name, value);
    if (value > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
      refuse(fmt::format("\"{}\" is {}, must be below 2^63", name, value));
    }
    to = static_cast<std::int64_t>(value);
  }
  void read(const json& object, const char* name, std::uint64_t& to) const {
    const json& value = at(object, name);
    if (!value.is_number_unsigned()) refuse(fmt::format("\"{}\" must be a whole number", name));
    to = value.get<std::uint64_t>();
  }
  void read(const json& object, const char* name, double& to) const {
    const json& value = at(object, name);
    if (!value.is_number()) refuse(fmt::format("\"{}\" must be a number", name));
    to = value.get<double>();
  }
  void read(const json& object, const char* name, std::optional<double>& to) const {
    if (at(object, name).is_null()) return to.reset();
    read(object, name, to.emplace());
  }
  void read(const json& object, const char* name, std::string& to) const {
    const json& value = at(object, name);
    if (!value.is_string()) refuse(fmt::format("\"{}\" must be a string", name));
    to = value.get<std::string>();
  }
  void read(const json& object, const char* name, std::vector<FileDigest>& to) const {
    const json& value = at(object, name);
    if (!value.is_object() || !value.contains("parts"))
      return read_digest(value, to.emplace_back());
    std::uint64_t bytes = 0;
    read(value, "bytes", bytes);
    const json& parts = value.at("parts");
    if (!parts.is_array() || parts.empty()) refuse("\"parts\" must be a list");
    for (const json& part : parts) read_digest(part, to.emplace_back());
    if (bytes_of(to) == bytes) return;
    refuse(
        fmt::format("the parts of \"{}\" have {} bytes, the file {}", name, bytes_of(to), bytes));
  }
  void read_digest(const json& value, FileDigest& to) const {
    std::string checksum;
    read(value, "bytes", to.bytes);
    read(value, "xxh3", checksum);
    const char* end = checksum.data() + checksum.size();
    const auto parsed = std::from_chars(checksum.data(), end, to.xxh3, 16);
    if (parsed.ptr != end || checksum != checksum_text(to.xxh3)) {
      refuse(fmt::format("\"xxh3\" is {}, must be 16 hexadecimal digits", quote(checksum)));
    }
  }
  void read(const json& object, const char* name, bool& to) const {
    const json& value = at(object, name);
    if (!value.is_boolean()) refuse(fmt::format("\"{}\" must be true or false", name));
    to = value.get<bool>();
  }
  void read(const json& object, const char* name, std::vector<double>& to) const {
    const json& value = at(object, name);
    const auto is_number = [](const json& element) { return element.is_number(); };
    if (!value.is_array() || !std::ranges::all_of(value, is_number)) {
      refuse(fmt::format("\"{}\" must be a list of numbers", name));
    }
    to = value.get<std::vector<double>>();
  }
  template <HasFields Fields>
  void read(const json& object, const char* name, Fields& to) const {
    const json& value = at(object, name);
    visit_fields(to, [&](const char* field_name, auto& field, auto... added) {
      if (sizeof...(added) > 0 && value.is_object() && !value.contains(field_name)) return;
      read(value, field_name, field);
    });
  }

 private:
  std::string path_;
};

std::string read_text(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw Error(ExitCode::checkpoint, fmt::format("{}: has no {}, so it is no checkpoint folder",
                                                  path.parent_path().string(), kStateFile));
  }
  const InputFile file(path, ExitCode::checkpoint);
  if (file.size() > kMostStateBytes) {
    throw Error(ExitCode::checkpoint, fmt::format("{}: {} bytes, a checkpoint's has some hundred",
                                                  path.string(), file.size()));
  }
  std::string text(file.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

void verify_checksum(const StateReader& reader, std::string_view text) {
  const std::size_t tail = last_lines("").size();
  if (text.size() >= tail) {
    const std::string_view lines = text.substr(0, text.size() - tail);
    if (text.substr(lines.size()) == last_lines(lines)) return;
  }
  reader.refuse("damaged or edited: its checksum is not that of its lines");
}

void validate_content(const StateReader& reader, const CheckpointState& state) {
  if (const auto problem = find_size_problem(state.config, {})) {
    reader.refuse(fmt::format("model cannot be: {}", *problem));
  }
  if (state.precision != "fp32" && state.precision != "bf16") {
    reader.refuse(fmt::format("precision {}, must be fp32 or bf16", quote(state.precision)));
  }
}

}  // namespace

std::uint64_t bytes_of(const std::vector<FileDigest>& parts) {
  std::uint64_t bytes = 0;
  for (const FileDigest& part : parts) bytes += part.bytes;
  return bytes;
}

std::string usable_tokenizer(const std::string& name, const std::filesystem::path& folder) {
  return name.find('/') == name.npos ? name : (folder / name).string();
}

std::map<std::string, std::string> model_metadata(const ModelConfig& config,
                                                  const std::string& precision,
                                                  const std::string& tokenizer) {
  std::map<std::string, std::string> metadata = {
      {"format", "lathe"}, {"precision", precision}, {"tokenizer", tokenizer}};
  visit_fields(config, [&](const char* name, std::int64_t value) {
    metadata[name] = fmt::to_string(value);
  });
  return metadata;
}

std::string state_to_text(const CheckpointState& state) {
  ordered_json root;
  root["format"] = kFormat;
  root["version"] = has_parts(state) ? kVersion : kVersionOfWhole;
  root["model"] = to_json(state.config);
  root["precision"] = state.precision;
  root["tokenizer"] = state.tokenizer;
  root["state"] = to_json(state.train);
  if (!state.plans.empty()) root["plans"] = state.plans;
  for (const auto& [name, parts] : state.files) root["files"][name] = digests_json(parts);
  std::string text = root.dump(2);
  text.resize(text.rfind("\n}"));
  return text + last_lines(text);
}

CheckpointState read_state(const std::filesystem::path& path) {
  const std::string text = read_text(path);
  const StateReader reader(path);
  const json root = parse_json(text, path.string(), ExitCode::checkpoint);
  std::string format;
  std::uint64_t version = 0;
  reader.read(root, "format", format);
  if (format != kFormat) {
    reader.refuse(fmt::format("format {}, must be \"{}\"", quote(format), kFormat));
  }
  reader.read(root, "version", version);
  if (version < 1 || version > kVersion) {
    reader.refuse(
        fmt::format("format version {}, this Lathe reads versions 1 to {}", version, kVersion));
  }
  verify_checksum(reader, text);
  CheckpointState state;
  reader.read(root, "model", state.config);
  reader.read(root, "precision", state.precision);
  reader.read(root, "tokenizer", state.tokenizer);
  reader.read(root, "state", state.train);
  if (root.contains("plans")) reader.read(root, "plans", state.plans);
  const json& files = reader.at(root, "files");
  for (const char* name : {kModelFile, kOptimizerFile}) {
    reader.read(files, name, state.files[name]);
  }
  if (files.contains(kOptionsFile)) reader.read(files, kOptionsFile, state.files[kOptionsFile]);
  validate_content(reader, state);
  return state;
}

}  // namespace lathe
