// What a refused call must say.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "lathe/error.h"

namespace lathe::test {

// `call` throws Error of this code with exactly this message, and the message is one line.
inline void expect_error(ExitCode code, const std::string& message,
                         const std::function<void()>& call) {
  try {
    call();
    ADD_FAILURE() << "nothing thrown; expected: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << error.what();
    EXPECT_EQ(error.what(), message);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
  }
}

}  // namespace lathe::test
