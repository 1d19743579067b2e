// The terminal that stdout is, if it is one.
#pragma once

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstddef>

namespace lathe {

// 0 where there is no terminal: what reads a pipe has room for everything.
inline std::size_t terminal_width() {
  winsize size = {};
  const bool is_known = isatty(STDOUT_FILENO) != 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;
  return is_known ? size.ws_col : 0;
}

}  // namespace lathe
