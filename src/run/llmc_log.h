// main.log: the losses of a run in the lines that llm.c writes, for what reads those
// (docs/formats.md). llm.c counts steps from 0.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "lathe/run_folder.h"

namespace lathe {

std::string llmc_training_line(const StepMetrics& metrics);
std::string llmc_validation_line(std::int64_t step, double loss);
std::string llmc_accuracy_line(std::int64_t step, double accuracy);

// Whether it is a line, without its end, that a run has written before update `step` + 1. The
// validation of that step belongs to them only where the state of `step` has seen it.
bool is_llmc_line_until(std::string_view line, std::int64_t step, bool is_validated);

}  // namespace lathe
