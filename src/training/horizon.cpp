#include "lathe/horizon.h"

#include <algorithm>
#include <cmath>

#include "lathe/scale.h"

namespace lathe {

Horizon make_horizon(const Options& options, std::int64_t sequences, int ranks) {
  Horizon horizon{};
  horizon.tokens_per_step = options.batch_tokens;
  horizon.rows_per_step = options.batch_tokens / options.seq_len;
  const std::int64_t all_ranks = std::max<std::int64_t>(ranks, rank_grid(options).ranks());
  horizon.micro_steps = horizon.rows_per_step / options.micro_batch / all_ranks;
  if (options.steps > 0) {
    horizon.steps = options.steps;
  } else if (options.tokens > 0) {
    horizon.steps = (options.tokens + horizon.tokens_per_step - 1) / horizon.tokens_per_step;
  } else {
    const double epochs = options.epochs > 0 ? options.epochs : 1;
    const double rows = std::floor(epochs * static_cast<double>(sequences));
    horizon.steps = static_cast<std::int64_t>(rows) / horizon.rows_per_step;
  }
  horizon.steps = std::max<std::int64_t>(1, horizon.steps);
  return horizon;
}

}  // namespace lathe
