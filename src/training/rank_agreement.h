// That several ranks do the same: they were given the same options and have the same parameters.
// Nothing of training notices by itself when they do not: it goes on and learns less.
#pragma once

#include <string>
#include <vector>

#include "lathe/backend.h"
#include "lathe/communicator.h"
#include "lathe/options.h"
#include "lathe/safetensors.h"

namespace lathe {

// Of `options` as resolved, but for what each rank may have for itself. Throws Error(usage), the
// same on all ranks, that names the option and the first rank whose value is not that of rank 0.
void require_same_options(const Options& options, Communicator& communicator);

// Throws Error(peer), the same on all ranks, that names the ranks that differ from most and the
// first tensor that does. `when`: "in step 12".
void require_same_parameters(Backend& backend, const std::vector<NamedTensor>& parameters,
                             Communicator& communicator, const std::string& when);

}  // namespace lathe
