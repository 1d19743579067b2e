#pragma once

namespace lathe {

const char* version();     // "0.1.0"
const char* compiler();    // "GNU 12.2.0"
const char* build_type();  // CMake's: "Release"

}  // namespace lathe
