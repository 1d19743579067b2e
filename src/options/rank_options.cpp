// What `lathe plan` takes many ranks and the links between them for.
#include "option_groups.h"

namespace lathe {
namespace {

using enum OptionGroup;

constexpr RealRange kRate = {.most = 1e9, .least_included = false};
constexpr RealRange kMicroseconds = {.most = 1e6};

// clang-format off: a table
constexpr OptionSpec kRankOptions[] = {
    {.name = "nodes",
     .member = &Options::nodes,
     .value = "N",
     .integers = {.least = 1, .most = 4096},
     .group = ranks,
     .commands = kPlan,
     .help = "Nodes of as many ranks each. Without it, one"},
    {.name = "gemm-tflops",
     .member = &Options::gemm_tflops,
     .value = "X",
     .reals = kRate,
     .group = ranks,
     .commands = kPlan,
     .help =
         "Rate of a rank's matrix products, TFLOP/s. Without it, of a GPU 500 in bf16, 250 with "
         "--tf32, 50 in fp32"},
    {.name = "memory-gbytes",
     .member = &Options::memory_gbytes,
     .value = "X",
     .reals = kRate,
     .group = ranks,
     .commands = kPlan,
     .help = "Rate of a rank's memory, GB/s, bytes read and written. Without it, of a GPU 2500"},
    {.name = "link-gbytes",
     .member = &Options::link_gbytes,
     .value = "X",
     .reals = kRate,
     .group = ranks,
     .commands = kPlan,
     .help = "Rate at which a rank sends to another of its node, GB/s. Without it, of a GPU 350"},
    {.name = "link-microseconds",
     .member = &Options::link_microseconds,
     .value = "X",
     .initial = "5",
     .reals = kMicroseconds,
     .group = ranks,
     .commands = kPlan,
     .help = "What each such message takes beside its bytes"},
    {.name = "node-link-gbytes",
     .member = &Options::node_link_gbytes,
     .value = "X",
     .reals = kRate,
     .group = ranks,
     .commands = kPlan,
     .help = "Rate at which a node sends to another, GB/s, all its ranks together. Without it, of "
             "GPUs 50, which is one adapter of 400 Gbit/s"},
    {.name = "node-link-microseconds",
     .member = &Options::node_link_microseconds,
     .value = "X",
     .initial = "15",
     .reals = kMicroseconds,
     .group = ranks,
     .commands = kPlan,
     .help = "What each such message takes beside its bytes"},
};
// clang-format on

}  // namespace

std::span<const OptionSpec> rank_options() {
  return kRankOptions;
}

}  // namespace lathe
