// What ranks say to each other survives any cut on its way, and bytes that are no message are
// known as such.
#include "ranks/messages.h"

#include <gtest/gtest.h>

#include <string>

#include "lathe/random.h"

namespace lathe::test {
namespace {

const std::string kBinary = std::string("id\0\xff\n", 5) + std::string(123, '\x80');

TEST(Messages, AreReadHoweverTheyAreCut) {
  const std::string bytes =
      encode({.kind = MessageKind::hello, .rank = 3, .number = -7, .text = "4 node1"}) +
      encode({.kind = MessageKind::heartbeat}) +
      encode({.kind = MessageKind::all_here, .text = kBinary});
  for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
    MessageReader reader;
    std::string texts;
    int count = 0;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      reader.add(bytes.substr(at, piece));
      while (const auto message = reader.next()) {
        if (count++ == 0) {
          EXPECT_EQ(message->kind, MessageKind::hello);
          EXPECT_EQ(message->rank, 3);
          EXPECT_EQ(message->number, -7);
        }
        texts += message->text;
      }
    }
    EXPECT_EQ(count, 3) << piece;
    EXPECT_EQ(texts, "4 node1" + kBinary) << piece;
    EXPECT_FALSE(reader.is_broken());
  }
}

TEST(Messages, WhatIsNoneIsSeenAtItsHead) {
  const std::string right = encode({.kind = MessageKind::hello, .rank = 1, .text = "text"});
  const auto is_broken = [](const std::string& bytes) {
    MessageReader reader;
    reader.add(bytes);
    const bool has_message = reader.next().has_value();
    EXPECT_NE(has_message, reader.is_broken());
    reader.add(encode({.kind = MessageKind::heartbeat}));
    EXPECT_EQ(reader.next().has_value(), !reader.is_broken());
    return reader.is_broken();
  };
  EXPECT_FALSE(is_broken(right));
  EXPECT_TRUE(is_broken("GET / HTTP/1.1\r\nHost: node1\r\n\r\n"));
  for (const std::size_t at : {0, 4, 5, 11, 14, 15}) {  // magic, kind, sign of the rank, size
    std::string wrong = right;
    wrong[at] = '\xff';
    EXPECT_TRUE(is_broken(wrong)) << at;
  }
}

TEST(Messages, RandomBytesDoNoHarm) {
  const RandomKey key{.seed = 5, .stream = RandomStream::sampling, .substream = 0};
  for (std::uint64_t round = 0; round < 2000; ++round) {
    std::string bytes = encode({.kind = MessageKind::failed, .rank = 1, .text = "reason"});
    for (int i = 0; i < 3; ++i) {
      const auto draw = [&](std::uint64_t n) { return uniform(key, round * 16 + n); };
      const auto at = static_cast<std::size_t>(draw(2 * i) * static_cast<double>(bytes.size()));
      bytes[at] = static_cast<char>(256 * draw(2 * i + 1));
    }
    MessageReader reader;
    reader.add(bytes + bytes);
    while (const auto message = reader.next()) EXPECT_LE(message->text.size(), kMostText);
  }
}

TEST(Messages, ATextIsOneShortLine) {
  EXPECT_EQ(message_text("train.bin:\nis\tcut\x7f"), "train.bin: is cut ");
  EXPECT_EQ(message_text(std::string(5000, 'x')).size(), kMostText);
}

}  // namespace
}  // namespace lathe::test
