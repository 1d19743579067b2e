#include "support/small_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "lathe/commands.h"
#include "lathe/files.h"
#include "lathe/stop_signal.h"
#include "support/test_device.h"
#include "training/trainer.h"

namespace lathe::test {
namespace {

std::string checkpoint_file(std::int64_t step, const std::string& name) {
  return fmt::format("checkpoints/step-{:08}/{}", step, name);
}

}  // namespace

SmallRuns::SmallRuns(const std::string& text) : text_((folder_.path() / "text.txt").string()) {
  write_file_atomically(text_, text);
}

Options SmallRuns::options(const std::string& name, const std::vector<std::string>& more) const {
  std::vector<std::string> args = {"--quiet", "--out", path(name)};
  const auto is_resume = [](const std::string& arg) { return arg.starts_with("--resume"); };
  if (std::ranges::none_of(more, is_resume)) {
    args.insert(args.end(), {"--layers=1", "--heads=2", "--channels=16", "--context=16",
                             "--micro-batch=4", "--batch-tokens=128", "--steps=8", "--lr=1e-2",
                             "--no-shuffle", "--val-every=0", "--val-tokens=64", "--precision=fp32",
                             "--gemm-tuning=off", "--device", device_option(), "--train", text_});
  }
  args.insert(args.end(), more.begin(), more.end());
  return parse_options(Command::train, args, {});
}

int SmallRuns::train(const std::string& name, const std::vector<std::string>& more) const {
  return train_command(options(name, more));
}

int SmallRuns::train_observed(const std::string& name, const std::vector<std::string>& more,
                              const MakeObserver& observe) const {
  Options run = options(name, more);
  resolve(run);
  Trainer trainer(run, RunFolder::lock(run.out),
                  open_training_data(run, {.tokenizer = run.tokenizer, .token_keys = {}}),
                  /*start=*/std::nullopt, /*initial=*/nullptr);
  const auto observer = observe(trainer.backend());
  trainer.backend().set_observer(observer.get());
  const StopSignalWatch watch;
  return trainer.run();
}

std::string SmallRuns::path(const std::string& name, const std::string& file) const {
  return (folder_.path() / name / file).string();
}

std::string SmallRuns::file(const std::string& name, const std::string& file) const {
  return lathe::read_file(path(name, file), ExitCode::internal);
}

nlohmann::json SmallRuns::result(const std::string& name) const {
  return nlohmann::json::parse(file(name, "result.json"));
}

nlohmann::json SmallRuns::state(const std::string& name, std::int64_t step) const {
  return nlohmann::json::parse(file(name, checkpoint_file(step, "state.json"))).at("state");
}

std::vector<nlohmann::json> SmallRuns::lines(const std::string& name,
                                             const std::string& key) const {
  std::vector<nlohmann::json> found;
  std::istringstream text(file(name, "metrics.jsonl"));
  for (std::string line; std::getline(text, line);) {
    auto json = nlohmann::json::parse(line);
    if (json.contains(key)) found.push_back(std::move(json));
  }
  return found;
}

bool SmallRuns::same_tensors(const std::string& a, std::int64_t step_a, const std::string& b,
                             std::int64_t step_b) const {
  return std::ranges::all_of(std::vector<std::string>{"model.safetensors", "optimizer.safetensors"},
                             [&](const std::string& name) {
                               return file(a, checkpoint_file(step_a, name)) ==
                                      file(b, checkpoint_file(step_b, name));
                             });
}

}  // namespace lathe::test
