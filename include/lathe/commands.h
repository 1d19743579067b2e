// What `lathe COMMAND` runs once its options are parsed. Each returns the process exit code and
// throws Error for everything that is the user's to mend.
#pragma once

#include "lathe/communicator.h"
#include "lathe/options.h"

namespace lathe {

int train_command(const Options& options);
// One rank's part of it, to the end: leaves the communicator.
int train_as_rank(const Options& options, Communicator& communicator);
int eval_command(const Options& options);
int sample_command(const Options& options);
int convert_command(const Options& options);
int inspect_command(const Options& options);
int plan_command(const Options& options);
int bench_command(const Options& options);
int plot_command(const Options& options);
int ls_command(const Options& options);
int tokenize_command(const Options& options);
int train_tokenizer_command(const Options& options);
int verify_command(const Options& options);
int sweep_command(const Options& options);

}  // namespace lathe
