// state.json of a checkpoint: everything but the tensors, and the digests that prove those.
// Its last line is a checksum of all lines before, so no flipped bit goes unseen.
#pragma once

#include <concepts>
#include <filesystem>
#include <map>
#include <string>
#include <type_traits>

#include "lathe/checkpoint.h"
#include "lathe/files.h"

namespace lathe {

inline constexpr const char* kStateFile = "state.json";
inline constexpr const char* kModelFile = "model.safetensors";
inline constexpr const char* kOptimizerFile = "optimizer.safetensors";
inline constexpr const char* kOptionsFile = "config.toml";  // of checkpoints that a run has made

struct CheckpointState {
  ModelConfig config;
  std::string precision, tokenizer;
  TrainState train;
  std::string plans;  // of the device; "" on a CPU
  // Of all but state.json itself, the digests of the file's parts, one after another: one, or as
  // many as ranks have written.
  std::map<std::string, std::vector<FileDigest>> files;
};

std::uint64_t bytes_of(const std::vector<FileDigest>& parts);

std::string state_to_text(const CheckpointState& state);
CheckpointState read_state(const std::filesystem::path& path);  // Error(checkpoint)

// As --tokenizer takes it: a path in a file is relative to the file's folder.
std::string usable_tokenizer(const std::string& name, const std::filesystem::path& folder);

// Goes into a model's file, so that it explains itself away from its state.json.
std::map<std::string, std::string> model_metadata(const ModelConfig& config,
                                                  const std::string& precision,
                                                  const std::string& tokenizer);

template <class T, class Plain>
concept MaybeConst = std::same_as<std::remove_const_t<T>, Plain>;

// Of a field that version 1 had not: where a file lacks it, it keeps its default.
struct Added {};

// Calls visit(name, field) or visit(name, field, Added{}) for every field, in the order in which
// files hold them. A field may be a struct that has its own visit_fields, a list of numbers, a
// truth value.
template <MaybeConst<ModelConfig> Config, class Visit>
void visit_fields(Config& config, const Visit& visit) {
  visit("layers", config.layers);
  visit("heads", config.heads);
  visit("channels", config.channels);
  visit("context", config.context);
  visit("vocab", config.vocab);
}

template <MaybeConst<GuardState> State, class Visit>
void visit_fields(State& state, const Visit& visit) {
  visit("skipped_steps", state.skipped_steps);
  visit("rollbacks", state.rollbacks);
  visit("refused_in_row", state.refused_in_row);
  visit("last_refused_step", state.last_refused_step);
  visit("losses", state.losses);
  visit("gradient_norms", state.gradient_norms);
}

template <MaybeConst<StopRuleState> State, class Visit>
void visit_fields(State& state, const Visit& visit) {
  visit("best_val_loss", state.best_val_loss);
  visit("validations_without_best", state.validations_without_best);
  visit("end_reason", state.end_reason);
  visit("end_detail", state.end_detail);
}

template <MaybeConst<TrainState> State, class Visit>
void visit_fields(State& state, const Visit& visit) {
  visit("step", state.step);
  visit("epoch", state.epoch);
  visit("sequence", state.sequence);
  visit("tokens", state.tokens);
  visit("wall_seconds", state.wall_seconds);
  visit("best_val_loss", state.best_val_loss);
  visit("best_val_step", state.best_val_step);
  visit("validated_step", state.validated_step, Added{});
  visit("guard", state.guard, Added{});
  visit("stop_rules", state.stop_rules, Added{});
}

template <class T>
concept HasFields = requires(T& fields) {
  visit_fields(fields, [](const char*, auto&, auto...) {});
};

}  // namespace lathe
