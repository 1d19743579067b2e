// The PTX that nvcc embeds in an object file. One source may be there for several architectures.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "program.h"

namespace lathe::ptx {

class FatBinary {
 public:
  // `data` is what the wrapper that an object registers points to. Throws Error when there is no
  // PTX in it that can be read.
  explicit FatBinary(const void* data);
  // For tests: from PTX texts.
  explicit FatBinary(const std::vector<std::string>& ptx);

  // Of the current device, which has variables of its own. Parsed at first use, so that what a
  // program never runs may be beyond the machine. The highest architecture, or the one that
  // LATHE_PTX_ARCH names ("80"). Throws Error.
  Module& module();

 private:
  void add(std::string ptx);
  const std::string& wanted_ptx() const;

  std::map<int, std::string> by_architecture_;
  std::map<int, Module> modules_;  // by device; those without variables are shared
};

// Of ".target sm_90a": 90.
int target_architecture(const std::string& ptx);

}  // namespace lathe::ptx
