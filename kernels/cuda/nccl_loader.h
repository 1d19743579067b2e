// NCCL as it is found when it is first called.
#pragma once

#include <string>

namespace lathe::cuda {

// Why NCCL's library could not be loaded, so that every call answers ncclSystemError; empty when it
// could.
std::string nccl_load_problem();

}  // namespace lathe::cuda
