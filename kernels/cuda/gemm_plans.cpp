// Plans of products as text, to be kept with a run: {"gpu", "cublaslt", "plans": {product: {...}}}.
#include <cublasLt.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "gemm.h"

namespace lathe::cuda {
namespace {

using nlohmann::ordered_json;

// 64-bit words as text: JSON's numbers are not exact in every reader.
ordered_json words_to_json(const std::array<std::uint64_t, 8>& words) {
  ordered_json json = ordered_json::array();
  for (const std::uint64_t word : words) json.push_back(fmt::format("{:016x}", word));
  return json;
}

GemmPlan plan_from_json(const ordered_json& json) {
  GemmPlan plan;
  const ordered_json& words = json.at("algorithm");
  for (std::size_t i = 0; i < plan.algorithm.size(); ++i) {
    plan.algorithm[i] = std::stoull(words.at(i).get<std::string>(), nullptr, 16);
  }
  plan.separate_epilogue = json.at("separate_epilogue").get<bool>();
  return plan;
}

}  // namespace

std::string Gemms::plans() const {
  ordered_json plans = ordered_json::object();
  for (const auto& [name, plan] : plans_) {
    plans[name] = {{"algorithm", words_to_json(plan.algorithm)},
                   {"separate_epilogue", plan.separate_epilogue}};
  }
  const ordered_json json = {
      {"gpu", gpu_}, {"cublaslt", cublasLtGetVersion()}, {"plans", std::move(plans)}};
  return json.dump(1) + "\n";
}

void Gemms::restore_plans(const std::string& text) {
  try {
    const ordered_json json = ordered_json::parse(text);
    const auto gpu = json.at("gpu").get<std::string>();
    const auto version = json.at("cublaslt").get<std::size_t>();
    if (gpu != gpu_ || version != cublasLtGetVersion()) {
      messages_.push_back(fmt::format(
          "the plans for matrix products are of {} with cuBLASLt {}, here are {} with {}: chosen "
          "anew, results may differ in their last bits",
          gpu, version, gpu_, cublasLtGetVersion()));
      return;
    }
    std::map<std::string, GemmPlan> plans;
    for (const auto& [name, plan] : json.at("plans").items()) plans[name] = plan_from_json(plan);
    plans_ = std::move(plans);
  } catch (const std::exception& error) {
    messages_.push_back(fmt::format(
        "the plans for matrix products cannot be read ({}): chosen anew, results may differ in "
        "their last bits",
        error.what()));
  }
}

}  // namespace lathe::cuda
