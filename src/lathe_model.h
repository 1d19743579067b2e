// Lathe's own models in files: checkpoints, and .safetensors files that explain themselves by their
// metadata, such as a checkpoint's model.safetensors.
#pragma once

#include <filesystem>
#include <memory>

#include "lathe/model_source.h"

namespace lathe {

std::unique_ptr<ModelSource> open_lathe_model(const std::filesystem::path& path, Weights weights);

}  // namespace lathe
