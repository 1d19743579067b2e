// How a command ends: the codes there are, for help and docs, and which one an exception is.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "lathe/error.h"

namespace lathe {

struct ExitCodeMeaning {
  std::string_view code;  // "7", "128+N"
  std::string_view meaning;
};

// Every code that a command may end with.
std::span<const ExitCodeMeaning> exit_code_table();

struct Failure {
  ExitCode code;
  std::string message;
};

// What the exception that is being handled says; only inside a catch.
Failure current_failure();

}  // namespace lathe
