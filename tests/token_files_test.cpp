#include "lathe/token_files.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <array>
#include <filesystem>
#include <fstream>

#include "support/expect_error.h"
#include "support/open_files.h"
#include "support/shards.h"
#include "support/temp_dir.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using test::counting_tokens;
using test::expect_error;
using test::header_bytes;
using test::open_files;
using test::raw_token_bytes;
using test::sequence;
using test::shard_bytes;
using test::TempDir;
using Tokens = std::vector<std::int32_t>;

// A file of `size` zero bytes that takes no room on the disk, with `bytes` at `offset`.
std::string write_sparse(const TempDir& dir, const std::string& name, std::int64_t size,
                         const std::string& header, std::int64_t offset, const std::string& bytes) {
  const std::string path = dir.write(name, header);
  fs::resize_file(path, static_cast<std::uintmax_t>(size));
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(offset);
  file << bytes;
  return path;
}

TEST(TokenFiles, ReadsTextAsBytes) {
  const TempDir dir;
  const TokenFiles files = open_files({dir.write("a.txt", "ab\xff\x80z")});
  EXPECT_TRUE(files.is_text());
  EXPECT_EQ(files.vocab(), 256);
  EXPECT_EQ(files.tokens(), 5);
  EXPECT_EQ(sequence(files, 0, 4), (Tokens{'a', 'b', 255, 128, 'z'}));
  EXPECT_EQ(files.summary(), "1 file, 5 tokens (text, bytes as tokens)");
}

TEST(TokenFiles, ReadsTextInMemoryAsItDoesAFile) {
  const TempDir dir;
  const std::string text = "once upon a time\xfe";
  const TokenFiles memory = TokenFiles::from_text(text, "stories");
  const TokenFiles file = open_files({dir.write("a.md", text)});
  ASSERT_EQ(memory.sequences(4), 4);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(sequence(memory, i, 4), sequence(file, i, 4));
  expect_error(
      ExitCode::data,
      "stories: 17 tokens are fewer than one sequence of 18 (--seq-len 17 and its targets)",
      [&] { memory.require_sequences(17); });
}

TEST(TokenFiles, ReadsShards) {
  const TempDir dir;
  const TokenFiles files =
      open_files({dir.write("a.bin", shard_bytes(counting_tokens(50000, 257)))});
  EXPECT_FALSE(files.is_text());
  EXPECT_EQ(files.vocab(), 50257);
  EXPECT_EQ(files.tokens(), 257);
  EXPECT_EQ(sequence(files, 63, 4), (Tokens{50252, 50253, 50254, 50255, 50256}));
  EXPECT_EQ(files.summary(), "1 shard, 257 tokens (llm.c)");
}

TEST(TokenFiles, ReadsRawTokensWhenAsked) {
  const TempDir dir;
  const std::string path = dir.write("a.bin", raw_token_bytes(counting_tokens(7, 1000)));
  const TokenFiles files = open_files({path}, {.format = DataFormat::nanogpt});
  EXPECT_EQ(files.vocab(), 50257);
  EXPECT_EQ(sequence(files, 1, 2), (Tokens{9, 10, 11}));
  EXPECT_EQ(files.summary(), "1 shard, 1,000 tokens (nanoGPT)");
}

TEST(TokenFiles, FormatThatIsAskedForGoesBeforeTheEnding) {
  const TempDir dir;
  EXPECT_EQ(sequence(open_files({dir.write("a.csv", "x,y")}, {.format = DataFormat::text}), 0, 2),
            (Tokens{'x', ',', 'y'}));
  EXPECT_EQ(open_files({dir.write("a.bin", "odd")}, {.format = DataFormat::text}).tokens(), 3);
  const std::string shard = dir.write("shard", shard_bytes(counting_tokens(0, 3)));
  EXPECT_EQ(sequence(open_files({shard}, {.format = DataFormat::llmc}), 0, 2), (Tokens{0, 1, 2}));
}

TEST(TokenFiles, SequencesAreLongerThanOneReadToo) {
  const TempDir dir;
  const TokenFiles files = open_files({dir.write("a.bin", shard_bytes(counting_tokens(0, 40001)))});
  const Tokens all = sequence(files, 0, 40000);
  for (std::int32_t i = 0; i <= 40000; ++i) ASSERT_EQ(all[static_cast<std::size_t>(i)], i);
}

TEST(TokenFiles, SequencesNeverCrossShardsAndTheIncompleteLastIsDropped) {
  const TempDir dir;
  dir.write("0.bin", shard_bytes(counting_tokens(100, 9)));   // 2 sequences of 4, exactly
  dir.write("1.bin", shard_bytes(counting_tokens(200, 0)));   // none
  dir.write("2.bin", shard_bytes(counting_tokens(300, 4)));   // none, one token short
  dir.write("3.bin", shard_bytes(counting_tokens(400, 12)));  // 2, three tokens left over
  dir.write("4.bin", shard_bytes(counting_tokens(500, 5)));   // 1
  const TokenFiles files = open_files({dir / "*.bin"});
  EXPECT_EQ(files.tokens(), 30);
  ASSERT_EQ(files.sequences(4), 5);
  const std::array<std::int32_t, 5> first = {100, 104, 400, 404, 500};
  for (std::size_t i = 0; i < first.size(); ++i) {
    const std::int32_t t = first[i];
    EXPECT_EQ(sequence(files, static_cast<std::int64_t>(i), 4),
              (Tokens{t, t + 1, t + 2, t + 3, t + 4}));
  }
  EXPECT_EQ(files.sequences(1), 8 + 0 + 3 + 11 + 4);
  EXPECT_EQ(files.summary(), "5 shards, 30 tokens (llm.c)");
}

TEST(TokenFiles, PatternsStayInOrderAndTheirMatchesAreSorted) {
  const TempDir dir;
  for (const char* name : {"b2.txt", "b10.txt", "a.txt", "B1.txt"}) dir.write(name, name);
  const TokenFiles files = open_files({dir / "b*.txt", dir / "a.txt", dir / "[A-B]1.txt"});
  std::string names;
  for (int i = 0; i < 4; ++i) {
    for (const std::int32_t byte : sequence(files, i, 4)) names += static_cast<char>(byte);
  }
  EXPECT_EQ(names, "b10.tb2.txa.txtB1.tx");
}

TEST(TokenFiles, NameWithPatternCharactersIsAFileFirst) {
  const TempDir dir;
  dir.write("a1.txt", "pattern");
  const TokenFiles files = open_files({dir.write("a[1].txt", "literal")});
  EXPECT_EQ(sequence(files, 0, 1), (Tokens{'l', 'i'}));
  EXPECT_EQ(files.sequences(1), 6);
}

TEST(TokenFiles, AFileGivenTwiceCountsTwice) {
  const TempDir dir;
  const std::string path = dir.write("a.txt", "abc");
  EXPECT_EQ(open_files({path, path}).tokens(), 6);
}

TEST(TokenFiles, SplitsEachTextAtNineTenths) {
  const TempDir dir;
  for (const std::size_t size : {0u, 1u, 9u, 10u, 11u, 19u, 20u, 1115394u}) {
    const std::string path = dir.write("a.txt", std::string(size, 'a'));
    const auto boundary = static_cast<std::int64_t>(size * 9 / 10);
    EXPECT_EQ(open_files({path}, {.split = Split::training}).tokens(), boundary);
    EXPECT_EQ(open_files({path}, {.split = Split::validation}).tokens(),
              static_cast<std::int64_t>(size) - boundary);
  }
  const std::string path = dir.write("b.txt", "0123456789abcdefghij");
  EXPECT_EQ(sequence(open_files({path}, {.split = Split::training}), 0, 17).back(), 'h');
  EXPECT_EQ(sequence(open_files({path}, {.split = Split::validation}), 0, 1), (Tokens{'i', 'j'}));
}

TEST(TokenFiles, ShardsAreAllTraining) {
  const TempDir dir;
  const std::string path = dir.write("a.bin", shard_bytes(counting_tokens(0, 100)));
  EXPECT_EQ(open_files({path}, {.split = Split::training}).tokens(), 100);
  EXPECT_EQ(open_files({path}, {.split = Split::validation}).tokens(), 0);
}

TEST(TokenFiles, OffsetsBeyondTwoAndFourGibibytes) {
  const TempDir dir;
  constexpr std::int64_t kMost = 0x7fffffff;  // tokens; the file ends 1022 bytes above 4 GiB
  const auto tokens = counting_tokens(20000, 9);
  const std::int64_t first = kMost - 9;
  const std::string most =
      write_sparse(dir, "most.bin", 1024 + 2 * kMost, header_bytes({.tokens = 0x7fffffff}),
                   1024 + 2 * first, raw_token_bytes(tokens));
  const TokenFiles shard = open_files({most});
  ASSERT_EQ(shard.tokens(), kMost);
  EXPECT_EQ(sequence(shard, first / 2, 2), (Tokens{20000, 20001, 20002}));

  const std::int64_t above_two = (std::int64_t{1} << 30) + 20;  // tokens, at 2 GiB + 40 bytes
  const std::string raw = write_sparse(dir, "raw.bin", std::int64_t{6} << 30, "", 2 * above_two,
                                       raw_token_bytes(tokens));
  const TokenFiles raw_file = open_files({raw}, {.format = DataFormat::nanogpt});
  ASSERT_EQ(raw_file.sequences(4), (std::int64_t{3} << 28) - 1);
  EXPECT_EQ(sequence(raw_file, above_two / 4, 4), (Tokens{20000, 20001, 20002, 20003, 20004}));

  const std::int64_t above_four = std::int64_t{5} << 30;
  const std::string text = write_sparse(dir, "a.txt", above_four + 8, "", above_four, "far away");
  EXPECT_EQ(sequence(open_files({text}), above_four / 4, 4), (Tokens{'f', 'a', 'r', ' ', 'a'}));
}

TEST(TokenFiles, WritesNothingBesideTheData) {
  const TempDir dir;
  const TokenFiles files = open_files({dir.write("a.txt", "some text")});
  const auto before = fs::last_write_time(dir.path());
  files.check_tokens();
  sequence(files, 1, 3);
  EXPECT_EQ(std::distance(fs::directory_iterator(dir.path()), fs::directory_iterator()), 1);
  EXPECT_EQ(fs::last_write_time(dir.path()), before);
}

TEST(TokenFiles, GoesOnReadingAFileThatIsReplacedOrDeleted) {
  const TempDir dir;
  const std::string path = dir.write("a.txt", "first");
  const TokenFiles files = open_files({path});
  fs::rename(dir.write("b.txt", "second"), path);
  EXPECT_EQ(sequence(files, 0, 1), (Tokens{'f', 'i'}));
  fs::remove(path);
  EXPECT_EQ(sequence(files, 0, 1), (Tokens{'f', 'i'}));
}

TEST(TokenFiles, ClosesItsFiles) {
  const TempDir dir;
  const std::string path = dir.write("a.txt", "abc");
  const auto count_open = [] {
    return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
  };
  const auto before = count_open();
  {
    const TokenFiles files = open_files({path, path, path});
    EXPECT_EQ(count_open(), before + 3);
  }
  EXPECT_EQ(count_open(), before);
}

TEST(TokenFiles, OpensMoreFilesThanTheSoftLimit) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const TempDir dir;
  for (int i = 0; i < 100; ++i) dir.write(std::to_string(i) + ".txt", "abc");
  const rlimit low{.rlim_cur = 50, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  EXPECT_EQ(open_files({dir / "*.txt"}).tokens(), 300);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

}  // namespace
}  // namespace lathe
