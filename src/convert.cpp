// lathe convert: a model of one program as that of another, tensor by tensor. The result appears
// under its name when it is whole.
#include <fmt/format.h>

#include <filesystem>

#include "clock.h"
#include "hugging_face.h"
#include "lathe/commands.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "lathe/model_files.h"
#include "lathe/model_source.h"
#include "lathe_model.h"
#include "llmc_model.h"

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

// "dir/" names the same folder as "dir".
fs::path target_path(const Options& options) {
  const fs::path path = fs::path(options.out).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

fs::path beside(const fs::path& path, const char* suffix) {
  return path.parent_path() / fmt::format(".{}.{}", path.filename().string(), suffix);
}

// Refuses what is in the way, unless it is of the same kind and --overwrite says so.
void check_target(const fs::path& path, ModelFormat format, bool overwrite) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return;
  const auto refuse = [&](const char* message) {
    throw Error(ExitCode::usage, fmt::format("--out {}: {}", path.string(), message));
  };
  const bool is_folder = fs::is_directory(path, ignored);
  if (is_folder != (format == ModelFormat::hugging_face)) {
    refuse(is_folder ? "is a folder, the model is a file" : "is a file, the model is a folder");
  }
  if (is_folder && fs::is_empty(path, ignored)) return;
  if (!overwrite) refuse("exists; --overwrite replaces it");
  if (is_folder && !fs::exists(path / kHuggingFaceConfig, ignored)) {
    refuse("holds no model of Hugging Face, --overwrite does not replace it");
  }
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

struct Target {
  fs::path path;
  ModelFormat format;
  DType type;
};

// Returns lines for the user.
std::vector<std::string> write_model(const ModelSource& source, const Target& target) {
  const fs::path partial = beside(target.path, "partial"), removed = beside(target.path, "removed");
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
    publish(partial, target.path, removed);
  } catch (...) {
    fs::remove_all(partial, ignored);
    throw;
  }
  for (const fs::path& path : {partial, removed}) fs::remove_all(path, ignored);
  return lines;
}

}  // namespace

int convert_command(const Options& options) {
  if (options.paths.size() != 1) {
    throw Error(ExitCode::usage, fmt::format("convert: {} models given, it takes one at a time",
                                             options.paths.size()));
  }
  const double start = now();
  const ModelFormat format = target_format(options);
  const fs::path path = target_path(options);
  check_target(path, format, options.overwrite);
  const Weights weights = options.precision == "fp32" ? Weights::master : Weights::in_use;
  const auto source = open_model(options.paths.front(), weights);
  const ModelInfo& info = source->info();
  const std::string precision = options.precision.empty() ? info.precision : options.precision;
  for (const std::string& remark : info.remarks) fmt::print(stderr, "lathe: {}\n", remark);
  const auto lines =
      write_model(*source, {.path = path, .format = format, .type = parse_precision(precision)});
  for (const std::string& line : lines) fmt::print(stderr, "lathe: {}\n", line);
  fmt::print("{}: {}, {}, {} parameters, from {} in {}, {:.1f} s\n", path.string(), title(format),
             precision, parameter_count(parameter_specs(info.config)), info.path.string(),
             info.precision, now() - start);
  return 0;
}

}  // namespace lathe
