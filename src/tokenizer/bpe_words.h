// GPT-2's split pattern: text is a sequence of words, and no token crosses from one to the next.
#pragma once

namespace lathe {

// The end of the word that begins at `begin`: of the text's [begin, end), which is not empty, what
//     '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// matches there. It does not depend on what stands before `begin`.
const char* word_end(const char* begin, const char* end);

}  // namespace lathe
