#include "rank_agreement.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>

#include "lathe/error.h"
#include "lathe/files.h"
#include "options/option_sources.h"
#include "options/option_table.h"

namespace lathe {
namespace {

using nlohmann::json;

// No result depends on them; --config is what it says.
constexpr std::array<std::string_view, 4> kOfEachRank = {"threads", "quiet", "config",
                                                         "rank-timeout"};

bool is_of_all(const OptionSpec& option) {
  return option.taken_by(Command::train) &&
         std::ranges::find(kOfEachRank, option.name) == kOfEachRank.end();
}

std::string values_text(const Options& options) {
  json values = json::object();
  for (const OptionSpec& option : option_table()) {
    if (is_of_all(option)) values[std::string(option.name)] = value_text(options, option);
  }
  return values.dump(-1, ' ', false, json::error_handler_t::replace);
}

[[noreturn]] void refuse_options(const std::vector<std::string>& texts, int rank,
                                 const Communicator& communicator) {
  const json first = json::parse(texts.front());
  const json other = json::parse(texts[static_cast<std::size_t>(rank)]);
  const auto shown = [](const json& value) {
    const auto text = value.get<std::string>();
    return text.empty() ? "none" : text;
  };
  for (const OptionSpec& option : option_table()) {
    const std::string name(option.name);
    if (!is_of_all(option) || first[name] == other[name]) continue;
    throw Error(ExitCode::usage,
                fmt::format("--{}: {} has {}, {} has {}; must be the same on all ranks, see their "
                            "environments (LATHE_*) and --config files",
                            name, communicator.name_of(0), shown(first[name]),
                            communicator.name_of(rank), shown(other[name])));
  }
  throw Error(ExitCode::internal, "ranks' options differ in none of them");
}

// A checksum of each tensor, 8 bytes, one after another.
std::string checksums_of(Backend& backend, const std::vector<NamedTensor>& parameters) {
  constexpr std::int64_t kPiece = std::int64_t{1} << 18;  // elements: what a cache holds
  std::vector<std::byte> piece;
  std::string checksums;
  for (const NamedTensor& tensor : parameters) {
    Checksum checksum;
    for (std::int64_t at = 0; at < tensor.memory.count(); at += kPiece) {
      const Tensor from = tensor.memory.slice(at, std::min(kPiece, tensor.memory.count() - at));
      piece.resize(static_cast<std::size_t>(from.bytes()));
      backend.download(piece.data(), from);
      checksum.update(piece);
    }
    const std::uint64_t value = checksum.value();
    checksums.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  return checksums;
}

// What most ranks have; of several, what the lowest rank among them has.
const std::string& most_common(const std::vector<std::string>& values) {
  return *std::ranges::max_element(
      values, {}, [&](const std::string& value) { return std::ranges::count(values, value); });
}

std::string names_of(const std::vector<int>& ranks, const Communicator& communicator) {
  std::vector<std::string> names;
  for (const int rank : ranks) names.push_back(communicator.name_of(rank));
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

void require_same_options(const Options& options, Communicator& communicator) {
  if (communicator.is_alone()) return;
  const std::vector<std::string> texts = communicator.gather(values_text(options));
  const auto other = std::ranges::find_if(texts, [&](const auto& x) { return x != texts.front(); });
  if (other == texts.end()) return;
  refuse_options(texts, static_cast<int>(other - texts.begin()), communicator);
}

void require_same_parameters(Backend& backend, const std::vector<NamedTensor>& parameters,
                             Communicator& communicator, const std::string& when) {
  if (communicator.is_alone()) return;
  const auto of_ranks = communicator.gather(checksums_of(backend, parameters));
  const std::string& right = most_common(of_ranks);
  std::vector<int> same, others;
  for (int rank = 0; rank < communicator.size(); ++rank) {
    (of_ranks[static_cast<std::size_t>(rank)] == right ? same : others).push_back(rank);
  }
  if (others.empty()) return;
  std::size_t first = 0, count = 0;
  for (std::size_t i = parameters.size(); i-- > 0;) {
    const auto checksum = [&](const std::string& all) {
      return std::string_view(all).substr(8 * i, 8);
    };
    if (std::ranges::all_of(of_ranks,
                            [&](const auto& x) { return checksum(x) == checksum(right); })) {
      continue;
    }
    first = i;
    ++count;
  }
  const bool is_majority = 2 * same.size() > of_ranks.size();
  throw Error(
      ExitCode::peer,
      fmt::format("parameters differ between ranks {}: {} from {}, first in {}, in {} of {} "
                  "tensors; nothing of it is saved (--rank-check-every)",
                  when, names_of(others, communicator),
                  is_majority ? "the others" : names_of(same, communicator), parameters[first].name,
                  count, parameters.size()));
}

}  // namespace lathe
