// PTX text to kernels that the machine runs.
#pragma once

#include <string_view>

#include "program.h"

namespace lathe::ptx {

// Throws Error with the PTX line and the whole text of what it does not know.
Module parse(std::string_view ptx);

}  // namespace lathe::ptx
