// Descriptions of tensors: safetensors files and checkpoints.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

#include "checkpoint_state.h"
#include "describe.h"
#include "lathe/checkpoint.h"
#include "lathe/safetensors.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kPiece = std::uint64_t{1} << 20;  // bytes, a multiple of every type's

// Moments of the finite values, taken about the first of them so that a large mean costs no
// digits.
class Statistics {
 public:
  void add(double x) {
    if (!std::isfinite(x)) {
      ++non_finite_;
      return;
    }
    if (finite_++ == 0) origin_ = min_ = max_ = x;
    min_ = std::min(min_, x);
    max_ = std::max(max_, x);
    sum_ += x - origin_;
    square_sum_ += (x - origin_) * (x - origin_);
  }

  void append_to(Facts& facts) const {
    const auto count = static_cast<double>(finite_);
    const double mean = sum_ / count;
    const double variance = std::max(0.0, square_sum_ / count - mean * mean);
    const auto fact = [&](double value) { return finite_ > 0 ? Facts(value) : Facts(nullptr); };
    facts["mean"] = fact(origin_ + mean);
    facts["std"] = fact(std::sqrt(variance));
    facts["min"] = fact(min_);
    facts["max"] = fact(max_);
    facts["non_finite"] = non_finite_;
  }

 private:
  std::int64_t finite_ = 0, non_finite_ = 0;
  double origin_ = 0, sum_ = 0, square_sum_ = 0, min_ = 0, max_ = 0;
};

Facts describe_tensor(const SafetensorsReader& reader, const TensorInfo& tensor) {
  Facts facts = {{"name", tensor.name},
                 {"type", safetensors_name(tensor.type)},
                 {"shape", tensor.shape},
                 {"elements", tensor.count()}};
  Statistics statistics;
  std::vector<std::byte> piece(std::min(kPiece, tensor.end - tensor.begin));
  for (std::uint64_t at = 0; at < tensor.end - tensor.begin; at += kPiece) {
    const auto bytes = std::span(piece).first(std::min(kPiece, tensor.end - tensor.begin - at));
    reader.read(tensor, at, bytes);
    const auto size = static_cast<std::size_t>(size_of(tensor.type));
    for (std::size_t i = 0; i < bytes.size(); i += size) {
      statistics.add(element_value(tensor.type, bytes.data() + i));
    }
  }
  statistics.append_to(facts);
  return facts;
}

template <class Fields>
Facts facts_of(const Fields& fields) {
  Facts facts;
  visit_fields(fields, [&](const char* name, const auto& value) {
    if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::optional<double>>) {
      facts[name] = value ? Facts(*value) : Facts(nullptr);
    } else {
      facts[name] = value;
    }
  });
  return facts;
}

}  // namespace

Facts describe_safetensors(const fs::path& path) {
  const SafetensorsReader reader(path, ExitCode::data);
  Facts facts = {{"kind", "safetensors"}, {"bytes", fs::file_size(path)}};
  std::int64_t elements = 0;
  for (const TensorInfo& tensor : reader.tensors()) elements += tensor.count();
  facts["elements"] = elements;
  for (const auto& [name, value] : reader.metadata()) facts["metadata"][name] = value;
  facts["tensors"] = Facts::array();
  for (const TensorInfo& tensor : reader.tensors()) {
    facts["tensors"].push_back(describe_tensor(reader, tensor));
  }
  return facts;
}

Facts describe_checkpoint(const fs::path& folder) {
  const CheckpointInfo info = open_checkpoint(folder);
  const Facts model_file = describe_safetensors(info.folder / kModelFile);
  Facts facts = {{"kind", "checkpoint"},        {"folder", info.folder.string()},
                 {"checksums", "right"},        {"precision", info.precision},
                 {"tokenizer", info.tokenizer}, {"parameters", model_file.at("elements")}};
  facts["model"] = facts_of(info.config);
  facts["state"] = facts_of(info.state);
  for (const char* name : {kModelFile, kOptimizerFile, kStateFile}) {
    facts["file_bytes"][name] = fs::file_size(info.folder / name);
  }
  facts["tensors"] = model_file.at("tensors");
  return facts;
}

}  // namespace lathe
