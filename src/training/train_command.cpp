// lathe train. Nothing is written before everything that can be refused has been checked.
#include <fmt/format.h>

#include "lathe/commands.h"
#include "lathe/model_files.h"
#include "lathe/resume.h"
#include "trainer.h"

namespace lathe {
namespace {

// That a model to start from and the data go together.
void check_tokens(const InitialModel& initial, TrainingData& data) {
  require_tokenizer(initial, data);
  if (!data.tokenizer) return;
  const std::string warning = warning_of_other_tokens(initial.source->info(), *data.tokenizer);
  if (!warning.empty()) data.warnings.push_back(warning);
}

}  // namespace

int train_command(const Options& given) {
  Options options = given;
  RunFolder::check(options.out, options.overwrite, options.resume.has_value());
  FolderLock lock = RunFolder::lock(options.out);
  std::optional<CheckpointInfo> start = find_start(options);
  const auto initial = start ? std::nullopt : open_initial_model(options);
  resolve(options);
  DataOrigin origin{.tokenizer = options.tokenizer, .token_keys = {}};
  if (start) {
    origin = {.tokenizer = start->tokenizer, .token_keys = RunFolder::token_keys(options.out)};
  }
  TrainingData data = open_training_data(options, origin);
  if (initial) check_tokens(*initial, data);
  if (start && is_at_end(options, *start, data) && RunFolder::has_finished(options.out)) {
    fmt::print("{}: finished at step {}; nothing to do\n", options.out, start->state.step);
    return 0;
  }
  Trainer trainer(options, std::move(lock), std::move(data), std::move(start),
                  initial ? initial->source.get() : nullptr);
  return trainer.run();
}

}  // namespace lathe
