#include "support/small_run.h"

#include <algorithm>

#include "lathe/commands.h"
#include "lathe/files.h"
#include "lathe/stop_signal.h"
#include "support/run_output.h"
#include "support/test_device.h"
#include "training/trainer.h"

namespace lathe::test {

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
  return result_of(path(name));
}

nlohmann::json SmallRuns::state(const std::string& name, std::int64_t step) const {
  const std::string text = read_file(checkpoint_of(path(name), step) / "state.json");
  return parse_json(text).at("state");
}

std::vector<nlohmann::json> SmallRuns::lines(const std::string& name,
                                             const std::string& key) const {
  return lines_of(path(name), key);
}

bool SmallRuns::same_tensors(const std::string& a, std::int64_t step_a, const std::string& b,
                             std::int64_t step_b) const {
  return tensors_of(path(a), step_a) == tensors_of(path(b), step_b);
}

}  // namespace lathe::test
