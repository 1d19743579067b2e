// The text that is trained on when no data is named: small English stories drawn from the grammar
// in data/stories.grammar. No text of the grammar has two derivations, so the probability of a
// text is the product of its choices', and the entropy of the corpus is known, not estimated: a
// model's loss has a floor that can be drawn beside it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

// Whole stories, each closed by a blank line; printable ASCII and '\n'.
struct StoryCorpus {
  std::string text;
  // One value per byte of `text`: -log p (nats) of the choices that decide this byte, booked on the
  // first byte of the words that a choice leads to. Their sum is -log p(text) given its number of
  // stories; most are 0.
  std::vector<float> nats;
};

// Ends at the first end of a story at or after `bytes`. The text is a pure function of the seed, on
// every machine, and a longer corpus begins with a shorter one.
StoryCorpus make_story_corpus(std::uint64_t seed, std::int64_t bytes);

// log p of whole stories by parsing them, which shares no code with making them; 0 for no text,
// -infinity for a text that is not of the grammar.
double story_log_probability(std::string_view text);

}  // namespace lathe
