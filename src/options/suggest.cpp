#include "suggest.h"

#include <algorithm>
#include <vector>

namespace lathe {

int edit_distance(std::string_view a, std::string_view b) {
  // Optimal string alignment: cost[i][j] is the distance between the first i and the first j.
  std::vector<std::vector<int>> cost(a.size() + 1, std::vector<int>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) cost[i][0] = static_cast<int>(i);
  for (std::size_t j = 0; j <= b.size(); ++j) cost[0][j] = static_cast<int>(j);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const int replace = cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, replace});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
      }
    }
  }
  return cost[a.size()][b.size()];
}

std::optional<std::string> closest(std::string_view word, std::span<const std::string> known) {
  constexpr std::size_t kLongest = 64;  // nobody means a short name with a longer word
  if (word.empty() || word.size() > kLongest) return std::nullopt;
  const std::string* best = nullptr;
  int least = 0;
  for (const std::string& candidate : known) {
    const int distance = edit_distance(word, candidate);
    const int allowed = std::max(1, static_cast<int>(std::max(word.size(), candidate.size())) / 3);
    if (distance <= allowed && (best == nullptr || distance < least)) {
      best = &candidate;
      least = distance;
    }
  }
  if (best == nullptr && word.size() >= 3) {
    const auto contains_word = [word](const std::string& candidate) {
      return candidate.starts_with(word) || candidate.ends_with(word);
    };
    const auto found = std::ranges::find_if(known, contains_word);
    if (found != known.end()) best = &*found;
  }
  return best == nullptr ? std::nullopt : std::optional(*best);
}

}  // namespace lathe
