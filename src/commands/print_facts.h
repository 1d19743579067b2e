// Facts as text for people: `NAME  VALUE` lines first, then what has parts of its own, indented.
#pragma once

#include <string>

#include "describe.h"

namespace lathe {

// Facts may come from a file that holds any JSON; every line ends with a line feed.
std::string facts_text(const Facts& facts);

}  // namespace lathe
