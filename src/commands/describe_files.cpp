// Descriptions of token files, texts and what a run leaves behind.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <cstring>
#include <limits>
#include <optional>

#include "base/strict_json.h"
#include "data/shard_format.h"
#include "describe.h"
#include "lathe/checkpoint.h"
#include "lathe/files.h"
#include "lathe/gpt2_tokens.h"
#include "lathe/token_files.h"
#include "options/option_sources.h"
#include "run/run_files.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kShownTokens = 16;
constexpr std::size_t kShownText = 60;

// Calls visit(bytes) for all of a file from `offset` on, piece by piece.
template <class Visit>
void for_each_piece(const InputFile& file, std::uint64_t offset, const Visit& visit) {
  std::vector<std::byte> piece(std::min<std::uint64_t>(std::size_t{1} << 20, file.size()));
  while (offset < file.size()) {
    const auto bytes =
        std::span(piece).first(std::min<std::uint64_t>(piece.size(), file.size() - offset));
    file.read(offset, bytes);
    visit(bytes);
    offset += bytes.size();
  }
}

// Documents of a shard, each behind an end-of-text token, seen token by token. The last one is as
// long as this shard has it.
class ShardDocuments {
 public:
  void add(std::uint16_t token) {
    if (token != kGpt2EndOfText) {
      ++length_;
      return;
    }
    close();
    ++count_;
  }

  Facts facts() {
    close();
    Facts facts = {{"end_of_text_tokens", count_},
                   {"tokens_before_the_first_end_of_text", before_first_},
                   {"empty_documents", empty_}};
    if (count_ > 0) {
      facts["document_tokens"] = {{"shortest", shortest_},
                                  {"mean", static_cast<double>(sum_) / static_cast<double>(count_)},
                                  {"longest", longest_}};
    }
    return facts;
  }

 private:
  // What has come since the last end-of-text token.
  void close() {
    if (count_ == 0) {
      before_first_ = length_;
    } else {
      if (length_ == 0) ++empty_;
      shortest_ = std::min(shortest_, length_);
      longest_ = std::max(longest_, length_);
      sum_ += length_;
    }
    length_ = 0;
  }

  std::int64_t count_ = 0, before_first_ = 0, empty_ = 0, length_ = 0, sum_ = 0, longest_ = 0;
  std::int64_t shortest_ = std::numeric_limits<std::int64_t>::max();
};

// TokenFiles decides whether the file is sound, so that this says what --train would.
Facts describe_tokens(const fs::path& path, DataFormat format) {
  const TokenFiles checked =
      TokenFiles::open({.patterns = {path.string()},
                        .option = "inspect",
                        .format = format,
                        .split = Split::whole,
                        .vocab = std::numeric_limits<std::uint16_t>::max() + 1});
  const InputFile file(path, ExitCode::data);
  std::vector<std::uint16_t> first;
  std::uint16_t min = std::numeric_limits<std::uint16_t>::max(), max = 0;
  std::int64_t beyond_gpt2 = 0;
  ShardDocuments documents;
  const std::uint64_t offset = format == DataFormat::llmc ? std::uint64_t{ShardHeader::kBytes} : 0;
  for_each_piece(file, offset, [&](std::span<const std::byte> bytes) {
    for (std::size_t at = 0; at + 2 <= bytes.size(); at += 2) {
      std::uint16_t token = 0;
      std::memcpy(&token, bytes.data() + at, sizeof token);
      min = std::min(min, token);
      max = std::max(max, token);
      if (token > kGpt2EndOfText) ++beyond_gpt2;
      documents.add(token);
      if (first.size() < kShownTokens) first.push_back(token);
    }
  });
  Facts facts = {
      {"kind", format == DataFormat::llmc ? "token shard (llm.c)" : "raw tokens (nanoGPT)"},
      {"bytes", file.size()},
      {"tokens", checked.tokens()},
      {"min_token", first.empty() ? Facts(nullptr) : Facts(min)},
      {"max_token", first.empty() ? Facts(nullptr) : Facts(max)},
      {"tokens_beyond_gpt2", beyond_gpt2},
      {"first_tokens", first}};
  facts.update(documents.facts());
  return facts;
}

std::optional<double> number_at(const nlohmann::json& line, const char* key) {
  if (!line.contains(key) || !line.at(key).is_number()) return std::nullopt;
  return line.at(key).get<double>();
}

Facts fact_of(const std::optional<double>& value) {
  return value ? Facts(*value) : Facts(nullptr);
}

// Of a loss, or of anything else such as the accuracy in a multiple-choice task.
bool has_validation(const nlohmann::json& line) {
  for (const auto& item : line.items()) {
    if (item.key().starts_with("val/")) return true;
  }
  return false;
}

// What metrics.jsonl says, gathered line by line.
class MetricsSummary {
 public:
  void add(const nlohmann::json& line, const std::string& source) {
    const auto refuse = [&](const char* message) {
      throw Error(ExitCode::data, fmt::format("{}: {}", source, message));
    };
    if (!line.is_object() || !line.contains("step") || !line.at("step").is_number_unsigned()) {
      refuse(R"(must be an object with a "step" that is a whole number)");
    }
    const auto step = line.at("step").get<std::uint64_t>();
    if (line.contains("train/loss")) {
      if (training_lines_++ == 0) first_step_ = step;
      last_step_ = step;
      train_loss_ = number_at(line, "train/loss");
      if (training_lines_ == 1) first_train_loss_ = train_loss_;
    } else if (line.contains("val/loss")) {
      ++validation_lines_;
      val_loss_ = number_at(line, "val/loss");
      if (val_loss_ && (!best_val_loss_ || *val_loss_ < *best_val_loss_)) {
        best_val_loss_ = val_loss_;
        best_val_step_ = step;
      }
    } else if (line.contains("event") && line.at("event") == "resume") {
      ++resumes_;
    } else if (!has_validation(line)) {
      refuse(R"(must hold "train/loss", "val/..." or "event": "resume")");
    }
  }

  Facts facts() const {
    return {{"kind", "metrics"},
            {"training_lines", training_lines_},
            {"validation_lines", validation_lines_},
            {"resumes", resumes_},
            {"first_step", first_step_},
            {"last_step", last_step_},
            {"first_train_loss", fact_of(first_train_loss_)},
            {"last_train_loss", fact_of(train_loss_)},
            {"last_val_loss", fact_of(val_loss_)},
            {"best_val_loss", fact_of(best_val_loss_)},
            {"best_val_step", best_val_step_}};
  }

 private:
  std::int64_t training_lines_ = 0, validation_lines_ = 0, resumes_ = 0;
  std::uint64_t first_step_ = 0, last_step_ = 0, best_val_step_ = 0;
  std::optional<double> first_train_loss_, train_loss_, val_loss_, best_val_loss_;
};

}  // namespace

Facts describe_shard(const fs::path& path) {
  return describe_tokens(path, DataFormat::llmc);
}

Facts describe_raw_tokens(const fs::path& path) {
  return describe_tokens(path, DataFormat::nanogpt);
}

Facts describe_text(const fs::path& path) {
  const InputFile file(path, ExitCode::data);
  std::bitset<256> seen;
  std::int64_t lines = 0;
  std::string start;
  char last = '\n';
  for_each_piece(file, 0, [&](std::span<const std::byte> bytes) {
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (start.empty()) start = text.substr(0, kShownText);
    for (const char c : text) seen.set(static_cast<unsigned char>(c));
    lines += std::count(text.begin(), text.end(), '\n');
    last = text.back();
  });
  if (last != '\n') ++lines;  // a last line without its end
  return {{"kind", "text"},
          {"bytes", file.size()},
          {"lines", lines},
          {"distinct_bytes", seen.count()},
          {"starts_with", start}};
}

Facts describe_metrics(const fs::path& path) {
  const std::string text = read_file(path, ExitCode::data);
  MetricsSummary summary;
  std::size_t begin = 0, number = 1;
  for (std::size_t end = 0; (end = text.find('\n', begin)) != text.npos;
       begin = end + 1, ++number) {
    const std::string source = fmt::format("{}: line {}", path.string(), number);
    const auto line =
        parse_json(std::string_view(text).substr(begin, end - begin), source, ExitCode::data);
    summary.add(line, source);
  }
  Facts facts = summary.facts();
  facts["last_line_is_cut"] = begin < text.size();  // by a kill; --resume removes it
  return facts;
}

Facts describe_config(const fs::path& path) {
  Facts facts = {{"kind", "options"}};
  Options checked{};
  for (const Setting& setting : read_toml(Command::train, path)) {
    apply(checked, setting);
    facts[std::string(setting.option->name)] = fmt::format("{}", fmt::join(setting.values, " "));
  }
  return facts;
}

Facts describe_result(const fs::path& path) {
  const Facts result = read_result(path);
  if (!result.contains("status") || !result.contains("exit_code")) {
    throw Error(ExitCode::data, fmt::format("{}: is JSON, but no run's result.json, which has "
                                            "\"status\" and \"exit_code\"",
                                            path.string()));
  }
  Facts facts = {{"kind", "result"}};
  for (const auto& [name, value] : result.items()) facts[name] = value;
  return facts;
}

Facts describe_run(const fs::path& folder, std::vector<Error>& problems) {
  Facts facts = {{"kind", "run"}};
  const auto add = [&](const char* part, const char* file, Facts (*describe)(const fs::path&)) {
    std::error_code ignored;
    if (!fs::exists(folder / file, ignored)) return;
    try {
      facts[part] = describe(folder / file);
      facts[part].erase("kind");
    } catch (const Error& error) {
      problems.push_back(error);
    }
  };
  add("config", "config.toml", describe_config);
  add("metrics", "metrics.jsonl", describe_metrics);
  add("result", "result.json", describe_result);
  facts["checkpoints"] = Facts::array();
  for (const fs::path& path : list_checkpoints(folder)) {
    facts["checkpoints"].push_back(path.filename().string());
  }
  std::vector<std::string> damaged;
  const auto newest = newest_checkpoint(folder, &damaged);
  facts["newest_whole_checkpoint"] =
      newest ? Facts(newest->folder.filename().string()) : Facts(nullptr);
  for (const std::string& line : damaged) problems.emplace_back(ExitCode::checkpoint, line);
  return facts;
}

}  // namespace lathe
