#include "known_tokenizer.h"

#include <fmt/format.h>

#include <filesystem>
#include <set>

#include "lathe/dataset.h"
#include "lathe/error.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// Who has shards does not need GPT-2's vocabulary to train on them.
KnownTokenizer tokenizer_of_dataset(const fs::path& folder, const Dataset& dataset) {
  KnownTokenizer known{
      .name = dataset.tokenizer, .tokenizer = nullptr, .vocab = dataset.vocab, .message = {}};
  try {
    known.tokenizer = open_saved_tokenizer(dataset.tokenizer, folder);
  } catch (const Error& error) {
    if (dataset.tokenizer != "gpt2") throw;
    known.message = fmt::format("samples are numbers, because {}", error.what());
  }
  return known;
}

// A path says more than that a tokenizer is saved beside something.
std::string title(const KnownTokenizer& known) {
  return known.tokenizer ? known.tokenizer->name() : known.name;
}

bool are_same(const KnownTokenizer& a, const KnownTokenizer& b) {
  if (a.tokenizer && b.tokenizer) return same_tokens(*a.tokenizer, *b.tokenizer);
  return a.name == b.name && a.vocab == b.vocab;
}

}  // namespace

KnownTokenizer tokenizer_of_text(const std::string& asked) {
  const auto tokenizer = open_tokenizer(asked);
  return {.name = saved_tokenizer_name(*tokenizer),
          .tokenizer = tokenizer,
          .vocab = tokenizer->vocab(),
          .message = {}};
}

KnownTokenizer tokenizer_of_shards(const std::vector<std::string>& paths,
                                   const std::string& asked) {
  std::set<fs::path> folders;
  for (const std::string& path : paths) folders.insert(fs::path(path).parent_path());
  KnownTokenizer known;
  fs::path known_from;
  for (const fs::path& folder : folders) {
    const auto dataset = read_dataset(folder);
    if (!dataset) continue;
    KnownTokenizer found = tokenizer_of_dataset(folder, *dataset);
    if (known.name != "none" && !are_same(known, found)) {
      throw Error(ExitCode::data,
                  fmt::format("{} and {}: their shards are of different tokenizers, as {} says",
                              known_from.string(), folder.string(), kDatasetFile));
    }
    known = std::move(found);
    known_from = folder;
  }
  const bool is_known = asked == "gpt2" && known.name == asked;  // a path may have any name
  if (asked == "bytes" || asked == "none" || is_known) return known;
  KnownTokenizer wanted = tokenizer_of_text(asked);
  if (known.name != "none" && !are_same(known, wanted)) {
    throw Error(ExitCode::usage,
                fmt::format("--tokenizer {}: the shards in {} are of another tokenizer, {}", asked,
                            known_from.string(), known.name));
  }
  return wanted;
}

void require_tokens_of(const KnownTokenizer& model, const std::vector<std::string>& shards) {
  const KnownTokenizer found = tokenizer_of_shards(shards, "none");
  if (model.name == "none" || found.name == "none" || are_same(model, found)) return;
  if (model.name == "gpt2" && found.name == "gpt2") return;  // also where it is not to be had
  throw Error(ExitCode::data,
              fmt::format("--val {}: its tokens are those of {}, as {} beside it says, the model's "
                          "of {}",
                          shards.front(), title(found), kDatasetFile, title(model)));
}

}  // namespace lathe
