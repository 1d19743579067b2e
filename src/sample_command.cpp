// lathe sample: text from a checkpoint, written as it is made.
#include <cstdio>

#include "lathe/commands.h"
#include "lathe/error.h"
#include "lathe/model_files.h"
#include "lathe/sample.h"

namespace lathe {

int sample_command(const Options& options) {
  LoadedModel loaded = load_model(options, /*micro_batch=*/1);
  const bool is_text = loaded.info.tokenizer == "bytes";
  if (!is_text && !options.prompt.empty()) {
    throw Error(ExitCode::usage,
                "--prompt: needs a model trained on text; this one was trained on "
                "token shards, whose text Lathe cannot encode yet");
  }
  SampleSpec spec{.prompt = {},
                  .max_tokens = options.max_tokens,
                  .temperature = options.temperature,
                  .top_k = options.top_k,
                  .seed = options.seed};
  for (const char c : options.prompt) spec.prompt.push_back(static_cast<unsigned char>(c));
  if (spec.prompt.empty()) {
    spec.prompt.push_back(first_token(is_text, loaded.info.config.vocab));
  }
  std::fputs(options.prompt.c_str(), stdout);
  generate(*loaded.model, spec, [&](std::int32_t token) {
    if (is_text) {
      std::fputc(token, stdout);
    } else {
      std::fprintf(stdout, "%d ", token);
    }
    std::fflush(stdout);
  });
  std::fputc('\n', stdout);
  return 0;
}

}  // namespace lathe
