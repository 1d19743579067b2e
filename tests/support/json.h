// nlohmann::json in tests. What takes long to compile, reading and printing it, is compiled once.
#pragma once

#include <iosfwd>
#include <nlohmann/json.hpp>
#include <string_view>

extern template class nlohmann::basic_json<>;

namespace nlohmann {
void PrintTo(const json& value, std::ostream* out);  // what gtest calls
}

namespace lathe::test {

nlohmann::json parse_json(std::string_view text);

}  // namespace lathe::test
