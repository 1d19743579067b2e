// lathe convert: a model of one program as that of another, tensor by tensor. The result appears
// under its name when it is whole.
#include <fmt/format.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/clock.h"
#include "base/strict_json.h"
#include "lathe/commands.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "lathe/model_files.h"
#include "lathe/model_source.h"
#include "model_files/hugging_face.h"
#include "model_files/lathe_model.h"
#include "model_files/llmc_model.h"
#include "replaced_model.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

ModelFormat target_format(const Options& options) {
  const std::string ending = fs::path(options.out).extension().string();
  if (options.to == "hf") return ModelFormat::hugging_face;
  if (options.to == "llmc") return ModelFormat::llmc;
  if (options.to == "lathe") return ModelFormat::lathe;
  if (ending == ".bin") return ModelFormat::llmc;
  return ending == ".safetensors" ? ModelFormat::lathe : ModelFormat::hugging_face;
}

struct Target {
  std::string name;  // for messages: what --out says
  fs::path path;     // absolute
  ModelFormat format;
  DType type;
};

// "dir/" names the same folder as "dir".
fs::path without_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

// Names beside it are made of this: "." has none, and one beside a symbolic link may be on another
// disk.
fs::path real_path(const fs::path& path) {
  std::error_code why;
  const fs::path real = fs::weakly_canonical(fs::absolute(path, why), why);
  return without_slash(why ? path : real);
}

fs::path beside(const fs::path& path, const char* suffix) {
  return path.parent_path() / fmt::format(".{}.{}", path.filename().string(), suffix);
}

bool is_mount_point(const fs::path& folder) {
  struct stat inside {
  }, outside{};
  if (::stat(folder.c_str(), &inside) != 0) return false;
  if (::stat(folder.parent_path().c_str(), &outside) != 0) return false;
  return inside.st_dev != outside.st_dev || folder == folder.parent_path();
}

bool is_empty_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored) && fs::is_empty(path, ignored);
}

// Refuses what is in the way, unless it is of the same kind and --overwrite says so. Of a folder
// every entry must be a model's: config.json alone may be anyone's.
void check_target(const Target& target, bool overwrite) {
  std::error_code ignored;
  if (!fs::exists(target.path, ignored)) return;
  const auto refuse = [&](const std::string& message) {
    throw Error(ExitCode::usage, fmt::format("--out {}: {}", target.name, message));
  };
  const bool is_folder = fs::is_directory(target.path, ignored);
  if (is_folder != (target.format == ModelFormat::hugging_face)) {
    refuse(is_folder ? "is a folder, the model is a file" : "is a file, the model is a folder");
  }
  if (is_folder && is_mount_point(target.path)) {
    refuse("is where a file system is mounted, which cannot be replaced; name a folder in it");
  }
  if (is_empty_folder(target.path)) return;
  if (!overwrite) refuse("exists; --overwrite replaces it");
  if (!is_folder) return;
  if (const std::string entry = find_foreign_entry(target.path); !entry.empty()) {
    refuse(fmt::format("holds other files than a model's ({}); --overwrite does not remove them",
                       printable(entry)));
  }
  if (!has_model_config(target.path)) {
    refuse("holds no model of Hugging Face; --overwrite does not replace it");
  }
}

// Where names cannot change places, the old model is called `removed` until the new one is there.
// Of a run that was killed in between it is the model, and gets its name back; later it is of no
// use.
void settle_removed(const Target& target) {
  const fs::path removed = beside(target.path, "removed");
  std::error_code why;
  if (!fs::exists(removed, why)) return;
  if (fs::is_directory(removed, why) && !find_foreign_entry(removed).empty()) return;  // not ours
  if (fs::exists(target.path, why)) {
    fs::remove_all(removed, why);
    return;
  }
  fs::rename(removed, target.path, why);
  if (!why) return;
  throw Error(ExitCode::storage, fmt::format("{}: cannot rename to {}: {}", removed.string(),
                                             target.path.string(), why.message()));
}

void make_parent(const fs::path& path) {
  std::error_code why;
  if (!path.has_parent_path()) return;
  fs::create_directories(path.parent_path(), why);
  if (!why) return;
  throw Error(ExitCode::storage,
              fmt::format("{}: cannot create: {}", path.parent_path().string(), why.message()));
}

std::vector<std::string> write_folder(const ModelSource& source, DType type, const fs::path& path) {
  std::error_code why;
  fs::create_directory(path, why);
  if (why) {
    throw Error(ExitCode::storage,
                fmt::format("{}: cannot create: {}", path.string(), why.message()));
  }
  std::vector<std::string> lines = write_hugging_face_model(source, type, path);
  sync_folder(path);
  return lines;
}

// An empty folder is filled and not replaced: someone may stand in it. config.json, which makes it
// a model, comes last.
void fill_folder(const fs::path& from, const fs::path& folder) {
  std::vector<fs::path> names;
  for (const auto& entry : fs::directory_iterator(from)) {
    if (entry.path().filename() != kHuggingFaceConfig) names.push_back(entry.path().filename());
  }
  names.emplace_back(kHuggingFaceConfig);
  for (const fs::path& name : names) {
    std::error_code why;
    fs::rename(from / name, folder / name, why);
    if (!why) continue;
    throw Error(ExitCode::storage,
                fmt::format("{}: cannot rename to: {}", (folder / name).string(), why.message()));
  }
  sync_folder(folder);
}

// Returns lines for the user.
std::vector<std::string> write_model(const ModelSource& source, const Target& target,
                                     bool overwrite) {
  const fs::path partial = beside(target.path, "partial");
  std::error_code ignored;
  make_parent(target.path);
  std::vector<std::string> lines;
  try {
    fs::remove_all(partial, ignored);  // what a killed run has left
    switch (target.format) {
      case ModelFormat::hugging_face:
        lines = write_folder(source, target.type, partial);
        break;
      case ModelFormat::llmc:
        write_llmc_model(source, target.type, partial);
        break;
      case ModelFormat::lathe:
        write_lathe_model(source, target.type, partial);
        break;
    }
    check_target(target, overwrite);  // it took a while: files may have come
    if (is_empty_folder(target.path)) {
      fill_folder(partial, target.path);
    } else {
      publish(partial, target.path, beside(target.path, "removed"));
    }
  } catch (...) {
    fs::remove_all(partial, ignored);
    throw;
  }
  fs::remove_all(partial, ignored);
  settle_removed(target);
  return lines;
}

}  // namespace

int convert_command(const Options& options) {
  if (options.paths.size() != 1) {
    throw Error(ExitCode::usage, fmt::format("convert: {} models given, it takes one at a time",
                                             options.paths.size()));
  }
  const double start = now();
  const fs::path given = without_slash(fs::path(options.out).lexically_normal());
  Target target{.name = given.string(),
                .path = real_path(given),
                .format = target_format(options),
                .type = DType::fp32};
  settle_removed(target);
  check_target(target, options.overwrite);
  check_replaced_model(options.paths.front(), given);
  const Weights weights = options.precision == "fp32" ? Weights::master : Weights::in_use;
  const auto source = open_model(options.paths.front(), weights);
  const ModelInfo& info = source->info();
  const std::string precision = options.precision.empty() ? info.precision : options.precision;
  target.type = parse_precision(precision);
  for (const std::string& remark : info.remarks) fmt::print(stderr, "lathe: {}\n", remark);
  const auto lines = write_model(*source, target, options.overwrite);
  for (const std::string& line : lines) fmt::print(stderr, "lathe: {}\n", line);
  fmt::print("{}: {}, {}, {} parameters, from {} in {}, {:.1f} s\n", target.name,
             title(target.format), precision, parameter_count(parameter_specs(info.config)),
             info.path.string(), info.precision, now() - start);
  return 0;
}

}  // namespace lathe
