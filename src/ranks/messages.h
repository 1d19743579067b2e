// What processes of one run say to each other over TCP, and its form in bytes. All run the same
// program on machines of one byte order. Nothing here trusts the bytes: who sent them may be nobody
// of ours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace lathe {

enum class MessageKind : std::uint32_t {
  // While they meet: `hello` is answered by `welcome` or `refusal`, then comes `here`; rank 0 ends
  // with `all_here` or `given_up`.
  hello = 1,
  welcome,
  refusal,
  here,
  all_here,
  given_up,
  // While they work.
  heartbeat,
  leaving,
  gone,
  failed,
  silent,
};

struct Message {
  MessageKind kind;
  std::int32_t rank = 0;    // that it is about
  std::int64_t number = 0;  // a token, a count, an exit code
  std::string text = {};    // at most kMostText bytes
};

constexpr std::size_t kMostText = 1024;

std::string encode(const Message& message);

// Puts messages together again, however the bytes were cut on their way.
class MessageReader {
 public:
  void add(std::string_view bytes) { bytes_ += bytes; }
  std::optional<Message> next();
  // What came is no message, nor will be what follows.
  bool is_broken() const { return is_broken_; }

 private:
  std::string bytes_;
  bool is_broken_ = false;
};

// On one line, without control characters, at most as long as a message's text may be.
std::string message_text(std::string_view text);

}  // namespace lathe
