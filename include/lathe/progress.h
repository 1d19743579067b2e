// How far something long has come, for whoever shows it.
#pragma once

#include <cstdint>
#include <functional>

namespace lathe {

using Progress = std::function<void(std::int64_t done, std::int64_t all)>;

}  // namespace lathe
