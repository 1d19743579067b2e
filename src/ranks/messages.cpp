#include "messages.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace lathe {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::uint32_t kMagic = 0x3148544c;  // "LTH1"

struct Header {
  std::uint32_t magic;
  std::uint32_t kind;
  std::int32_t rank;
  std::uint32_t text_size;
  std::int64_t number;
};
static_assert(sizeof(Header) == 24);

bool is_valid(const Header& header) {
  return header.magic == kMagic && header.kind >= static_cast<std::uint32_t>(MessageKind::hello) &&
         header.kind <= static_cast<std::uint32_t>(MessageKind::silent) && header.rank >= 0 &&
         header.text_size <= kMostText;
}

}  // namespace

std::string encode(const Message& message) {
  const std::size_t text_size = std::min(message.text.size(), kMostText);
  const Header header{.magic = kMagic,
                      .kind = static_cast<std::uint32_t>(message.kind),
                      .rank = message.rank,
                      .text_size = static_cast<std::uint32_t>(text_size),
                      .number = message.number};
  std::string bytes(sizeof(Header) + text_size, '\0');
  std::memcpy(bytes.data(), &header, sizeof(Header));
  std::copy_n(message.text.data(), text_size, bytes.data() + sizeof(Header));
  return bytes;
}

std::optional<Message> MessageReader::next() {
  if (is_broken_ || bytes_.size() < sizeof(Header)) return std::nullopt;
  Header header{};
  std::memcpy(&header, bytes_.data(), sizeof(Header));
  is_broken_ = !is_valid(header);
  const std::size_t size = sizeof(Header) + header.text_size;
  if (is_broken_ || bytes_.size() < size) return std::nullopt;
  Message message{.kind = static_cast<MessageKind>(header.kind),
                  .rank = header.rank,
                  .number = header.number,
                  .text = bytes_.substr(sizeof(Header), header.text_size)};
  bytes_.erase(0, size);
  return message;
}

std::string message_text(std::string_view text) {
  std::string line(text.substr(0, kMostText));
  std::ranges::replace_if(
      line, [](unsigned char c) { return c < ' ' || c == 127; }, ' ');
  return line;
}

}  // namespace lathe
