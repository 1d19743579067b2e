// "Did you mean": the known word closest to an unknown one.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace lathe {

// Inserted, deleted, replaced and swapped neighbouring characters between two words.
int edit_distance(std::string_view a, std::string_view b);

// The closest of `known` if no more than a third of it differs, or one that `word` begins or ends
// ("batch" for "micro-batch"); nullopt if nothing is close.
std::optional<std::string> closest(std::string_view word, std::span<const std::string> known);

}  // namespace lathe
