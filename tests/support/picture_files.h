// What `lathe plot` writes, read by what knows nothing of Lathe: its XML, and the data of its page.
#pragma once

#include <string>

#include "support/json.h"

namespace lathe::test {

// Empty, or why a browser would refuse the drawing: tags nest, attributes are quoted, the markup
// characters are escaped, the entities are known, and control characters are missing.
std::string xml_problem(const std::string& text);

// The JSON that the page's script reads.
nlohmann::json page_data(const std::string& page);

}  // namespace lathe::test
