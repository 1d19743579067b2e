#include "mpi_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include "lathe/error.h"

namespace lathe {
namespace {

constexpr const char* kName = "libmpi.so.40";

// Its plug-ins look for its symbols among those of the process.
void* open_library(const std::string& launcher) {
  if (void* const library = dlopen(kName, RTLD_NOW | RTLD_GLOBAL)) return library;
  throw Error(ExitCode::usage,
              fmt::format("{}: this process was started as one of several, and Open MPI, through "
                          "which they join, cannot be loaded: {}",
                          launcher, dlerror()));
}

}  // namespace

MpiLibrary::MpiLibrary(const std::string& launcher) : library_(open_library(launcher)) {}

MpiLibrary::Symbol MpiLibrary::find(const char* name) const {
  if (void* const address = dlsym(library_, name)) return {address};
  throw Error(ExitCode::usage, fmt::format("{}: has no {}; needed is Open MPI's", kName, name));
}

}  // namespace lathe
