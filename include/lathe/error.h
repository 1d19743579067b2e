// One exception type for everything that ends a command. Its message is one line that names the
// option or file, the value found, and what would be right; its code is the process exit code.
#pragma once

#include <stdexcept>
#include <string>

namespace lathe {

enum class ExitCode {
  finished = 0,
  internal = 1,    // a defect of Lathe
  usage = 2,       // options and configuration
  data = 3,        // data files
  checkpoint = 4,  // checkpoints, also --resume with none
  out_of_memory = 5,
  storage = 6,  // writing failed; the last good checkpoint is intact
  diverged = 7,
  peer = 8,          // another rank is gone, failed or silent, or did not come
  time_limit = 124,  // --max-time is over and the run is saved; the code that timeout(1) has for it
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

}  // namespace lathe
