// The program: finds the command, parses its options, runs it, and turns what went wrong into one
// line on stderr and an exit code.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <system_error>
#include <vector>

#include "lathe/commands.h"
#include "lathe/error.h"
#include "lathe/exit_codes.h"
#include "lathe/help.h"

namespace {

using namespace lathe;

int run_command(Command command, const Options& options) {
  switch (command) {
    case Command::train:
      return train_command(options);
    case Command::eval:
      return eval_command(options);
    case Command::sample:
      return sample_command(options);
    case Command::convert:
      return convert_command(options);
    case Command::inspect:
      return inspect_command(options);
    case Command::plan:
      return plan_command(options);
    case Command::bench:
      return bench_command(options);
    case Command::plot:
      return plot_command(options);
    case Command::ls:
      return ls_command(options);
    case Command::tokenize:
      return tokenize_command(options);
    case Command::train_tokenizer:
      return train_tokenizer_command(options);
    case Command::verify:
      return verify_command(options);
    case Command::sweep:
      return sweep_command(options);
  }
  throw Error(ExitCode::internal, "a command without a function");
}

int run(std::vector<std::string> args) {
  if (const auto help = help_text(args)) {
    fmt::print("{}", *help);
    return 0;
  }
  const Command command = find_command(args);
  args.erase(args.begin());
  return run_command(command, parse_options(command, args, process_environment()));
}

// One line, whatever the user's text brought into it.
int fail(const Failure& failure) {
  std::string line = fmt::format("lathe: {}", failure.message);
  std::ranges::replace_if(
      line, [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  std::fputs((line + '\n').c_str(), stderr);
  return static_cast<int>(failure.code);
}

int run_and_report(std::vector<std::string> args) {
  try {
    const int code = run(std::move(args));
    if (std::fflush(stdout) != 0) throw std::system_error(errno, std::generic_category(), "stdout");
    return code;
  } catch (const std::system_error& error) {
    // A reader that has seen enough (`lathe plan | head -1`) is no error; a full disk is.
    if (error.code() == std::errc::broken_pipe) return 0;
    return fail(current_failure());
  } catch (...) {
    return fail(current_failure());
  }
}

}  // namespace

int main(int argc, char** argv) {
  // Writing then fails with an error that can be handled.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  return run_and_report({argv + 1, argv + argc});
}
