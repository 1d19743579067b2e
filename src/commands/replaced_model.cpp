#include "replaced_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/file_kind.h"
#include "lathe/error.h"
#include "lathe/model_source.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// Without links, "." and a last slash, whether it is there or not.
fs::path settled_path(const fs::path& path) {
  std::error_code ignored;
  const fs::path real = fs::weakly_canonical(fs::absolute(path), ignored);
  return real.has_filename() ? real : real.parent_path();
}

bool is_in(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first ==
         folder.end();
}

}  // namespace

void check_replaced_model(const fs::path& source, const fs::path& out) {
  const auto refuse = [&](const std::string& reason) {
    throw Error(ExitCode::usage, fmt::format("--out {}: {}", out.string(), reason));
  };
  const fs::path from = settled_path(source), to = settled_path(out);
  if (from == to) return;  // the same model in the place of the old one
  if (is_in(to, from)) {
    refuse(fmt::format("is in {}, the model itself; give a place outside", source.string()));
  }
  if (is_in(from, to)) {
    refuse(fmt::format("holds {}, the model itself; give another place", source.string()));
  }
  std::error_code ignored;
  if (!fs::is_regular_file(to, ignored)) return;
  const FolderKind around = folder_kind(to.parent_path());
  if (around == FolderKind::checkpoint || around == FolderKind::hugging_face_model) {
    refuse(fmt::format("is part of {}; give another place", title(around)));
  }
  try {
    open_model(to, Weights::in_use);
  } catch (const Error&) {
    refuse("is no model; --overwrite does not replace it");
  }
}

}  // namespace lathe
