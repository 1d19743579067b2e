// What --overwrite of `lathe convert` may replace.
#pragma once

#include <filesystem>

namespace lathe {

// Refuses to write a model into the one that it is made of or over a folder that holds it, over a
// file that is no model, and over one that is part of a checkpoint or of a folder of Hugging Face.
// Error(usage), naming --out.
void check_replaced_model(const std::filesystem::path& source, const std::filesystem::path& out);

}  // namespace lathe
