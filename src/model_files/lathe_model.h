// Lathe's own models in files: checkpoints, and .safetensors files that explain themselves by their
// metadata, such as a checkpoint's model.safetensors.
#pragma once

#include <filesystem>
#include <memory>

#include "lathe/model_source.h"

namespace lathe {

// Errors: checkpoint.
std::unique_ptr<ModelSource> open_lathe_model(const std::filesystem::path& path, Weights weights);

// Writes and syncs a .safetensors file such as a checkpoint's model.safetensors. Errors: storage,
// and those of the source.
void write_lathe_model(const ModelSource& source, DType type, const std::filesystem::path& path);

}  // namespace lathe
