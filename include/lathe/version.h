#pragma once

namespace lathe {

const char* version();  // "0.1.0"

}  // namespace lathe
