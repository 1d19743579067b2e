#include "lathe/version.h"

namespace lathe {

const char* version() {
  return LATHE_VERSION;
}

const char* compiler() {
  return LATHE_COMPILER;
}

const char* build_type() {
  return LATHE_BUILD_TYPE;
}

}  // namespace lathe
