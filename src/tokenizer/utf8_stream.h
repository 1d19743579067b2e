// Bytes on their way to someone who reads them as UTF-8 while they come: a character is passed on
// when all of it is there. Bytes that belong to no character pass as they are.
#pragma once

#include <string>
#include <string_view>

namespace lathe {

class Utf8Stream {
 public:
  // Adds bytes; returns what can be passed on.
  std::string take(std::string_view bytes);

  // What is left when no more bytes come: the beginning of a character.
  std::string finish();

 private:
  std::string held_;
};

}  // namespace lathe
