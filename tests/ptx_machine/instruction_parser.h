#pragma once

#include <string>

#include "kernel_builder.h"

namespace lathe::ptx {

// Reads one instruction and adds it to the kernel. Throws Error for what is not in the table of
// instructions: nothing is guessed.
void parse_instruction(const std::string& text, int line, SourcePlace place, SourcePlace inlined_at,
                       KernelBuilder& kernel);

}  // namespace lathe::ptx
