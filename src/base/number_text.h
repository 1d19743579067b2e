// Numbers for people to read.
#pragma once

#include <cstdint>
#include <string>

namespace lathe {

std::string grouped(std::int64_t value);         // "1,234,567"
std::string rate_text(double per_second);        // "1.2M", "34k", "567"
std::string duration_text(double seconds);       // "1h02m", "3m04s", "5s"
std::string megabytes_text(std::int64_t bytes);  // "12.3 MB", "4.56 GB"
std::string non_finite_text(double value);       // "nan", whatever its sign; "inf", "-inf"

}  // namespace lathe
