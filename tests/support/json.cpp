#include "support/json.h"

#include <ostream>

template class nlohmann::basic_json<>;

namespace nlohmann {
void PrintTo(const json& value, std::ostream* out) {
  *out << value;
}
}  // namespace nlohmann

namespace lathe::test {

nlohmann::json parse_json(std::string_view text) {
  return nlohmann::json::parse(text);
}

}  // namespace lathe::test
