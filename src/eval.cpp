// lathe eval: the validation loss of a checkpoint.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "lathe/commands.h"
#include "lathe/evaluate.h"
#include "lathe/model_files.h"
#include "lathe/training_data.h"

namespace lathe {

int eval_command(const Options& given) {
  Options options = given;
  LoadedModel loaded = load_model(options, options.micro_batch);
  options.seq_len = loaded.model->options().seq_len;
  const ValidationData data = open_validation_data(options, loaded.info.config.vocab);
  const Evaluation evaluation = evaluate(*loaded.model, data.files, options.val_tokens).value();

  using Json = nlohmann::ordered_json;
  Json json = {{"checkpoint", loaded.info.path.string()},
               {"step", loaded.info.step ? Json(*loaded.info.step) : Json(nullptr)},
               {"val_loss", evaluation.loss},
               {"perplexity", std::exp(evaluation.loss)},
               {"tokens", evaluation.tokens}};
  std::string line = fmt::format("{} | {}\nval loss {:.4f} | perplexity {:.3f} | {} tokens",
                                 loaded.info.path.string(), data.files.summary(), evaluation.loss,
                                 std::exp(evaluation.loss), evaluation.tokens);
  if (data.files.is_text()) {
    json["bits_per_byte"] = evaluation.loss / std::log(2.0);
    line += fmt::format(" | {:.4f} bits per byte", evaluation.loss / std::log(2.0));
  }
  if (!data.floor.empty()) {
    const FloorComparison floor = compare_with_floor(evaluation, data.floor, options.seq_len);
    json["val_floor"] = floor.floor;
    json["val_floor_standard_error"] = floor.standard_error;
    line += fmt::format("\nfloor {:.4f} of the stories' grammar, {:+.1f} %", floor.floor,
                        100 * floor.excess);
  }
  fmt::print("{}\n", options.json ? json.dump() : line);
  return 0;
}

}  // namespace lathe
