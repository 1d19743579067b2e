// What a refused call said.
#pragma once

#include <concepts>
#include <string>

#include "lathe/error.h"

namespace lathe::test {

// "exit 4: message" of the Error that `call` throws, "exit 4, several lines: ..." when the message
// is not one line, "" when it throws none.
std::string error_of(const std::invocable auto& call) {
  try {
    call();
    return "";
  } catch (const Error& error) {
    const std::string message = error.what();
    const bool one_line = message.find_first_of("\n\r") == std::string::npos;
    return "exit " + std::to_string(static_cast<int>(error.code())) +
           (one_line ? ": " : ", several lines: ") + message;
  }
}

}  // namespace lathe::test
