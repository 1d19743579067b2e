// Which GPU each run of a sweep gets.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace lathe {

inline constexpr const char* kVisibleGpus = "CUDA_VISIBLE_DEVICES";

// The GPUs that a process sees, each as CUDA_VISIBLE_DEVICES names it alone: `count` of them, which
// are the first of the process's own CUDA_VISIBLE_DEVICES where it is set.
std::vector<std::string> visible_gpus(const std::optional<std::string>& variable, int count);

// That of a slot: in turn where there are more slots than GPUs. nullopt: there is none.
std::optional<std::string> gpu_of_slot(const std::vector<std::string>& gpus, std::size_t slot);

}  // namespace lathe
