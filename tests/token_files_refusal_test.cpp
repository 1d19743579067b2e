// Every way in which data can be wrong, and what is said.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>
#include <random>

#include "lathe/token_files.h"
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
using test::sequence;
using test::shard_bytes;
using test::TempDir;

void expect_data_error(const std::string& message, const std::function<void()>& call) {
  expect_error(ExitCode::data, message, call);
}

TEST(TokenFilesRefuses, NoPatternIsUsage) {
  expect_error(ExitCode::usage, "--train: needs a file, or a pattern such as 'data/*.bin'",
               [] { open_files({}); });
}

TEST(TokenFilesRefuses, NoMatch) {
  const TempDir dir;
  const std::string missing = dir / "x*.bin";
  expect_data_error("--train '" + missing + "': no file matches", [&] { open_files({missing}); });
  expect_data_error("--train '': no file matches in " + fs::current_path().string(),
                    [] { open_files({""}); });
  expect_data_error("--train 'no/such.bin': no file matches in " + fs::current_path().string(),
                    [] { open_files({"no/such.bin"}); });
  const std::string long_name(300, 'a');
  expect_data_error("--train '" + long_name + "': cannot be opened: File name too long",
                    [&] { open_files({long_name}); });
}

TEST(TokenFilesRefuses, FolderPipeDeviceAndWhatCannotBeOpened) {
  const TempDir dir;
  const std::string folder = dir.path().string();
  expect_data_error(
      "--train " + folder + ": is a folder; name files in it, such as '" + folder + "/*.txt'",
      [&] { open_files({folder}); });
  const std::string pipe = dir / "pipe.txt";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  expect_data_error("--train " + pipe +
                        ": is a pipe or device; data are read in any order, so save them in a file",
                    [&] { open_files({pipe}); });
  expect_data_error(
      "--train /dev/null: is a pipe or device; data are read in any order, so save "
      "them in a file",
      [] { open_files({"/dev/null"}, {.format = DataFormat::text}); });
  const std::string bare = dir / "bare";
  ASSERT_EQ(mkfifo(bare.c_str(), 0600), 0);
  expect_data_error("--train " + bare +
                        ": is a pipe or device; data are read in any order, so save them in a file",
                    [&] { open_files({bare}); });
  const std::string loop = dir / "loop.txt";
  fs::create_symlink(loop, loop);
  expect_data_error("--train " + loop + ": cannot be opened: Too many levels of symbolic links",
                    [&] { open_files({loop}); });
}

TEST(TokenFilesRefuses, WhatItMayNotRead) {
  const TempDir dir;
  const std::string path = dir.write("open/a.txt", "secret");
  const std::string hidden = dir.write("closed/a.txt", "secret");
  const auto passable = fs::perms::owner_all | fs::perms::group_exec | fs::perms::others_exec;
  fs::permissions(dir.path(), passable);
  fs::permissions(dir / "open", passable);
  fs::permissions(path, fs::perms::none);
  fs::permissions(dir / "closed", fs::perms::none);
  const bool is_root = geteuid() == 0;  // who may read everything
  if (is_root && seteuid(65534) != 0) GTEST_SKIP() << "cannot become another user";
  expect_data_error("--train " + path + ": cannot be opened: Permission denied",
                    [&] { open_files({path}); });
  expect_data_error("--train '" + hidden + "': cannot be opened: Permission denied",
                    [&] { open_files({hidden}); });
  if (is_root) {
    ASSERT_EQ(seteuid(0), 0);
  }
  fs::permissions(dir / "closed", fs::perms::owner_all);
}

TEST(TokenFilesRefuses, UnknownEnding) {
  const TempDir dir;
  const std::string path = dir.write("a.json", "{}");
  expect_data_error("--train " + path +
                        ": ends in neither .txt nor .md (text) nor .bin (llm.c shard); "
                        "--data-format text, llmc or nanogpt says what it is",
                    [&] { open_files({path}); });
}

TEST(TokenFilesRefuses, MixOfTextAndShards) {
  const TempDir dir;
  const std::string text = dir.write("a.txt", "text");
  const std::string shard = dir.write("b.bin", shard_bytes(counting_tokens(0, 9)));
  expect_data_error(
      "--train: " + text + " and " + shard + " mix text and token shards; give files of one kind",
      [&] {
        open_files({text, shard});
      });
}

TEST(TokenFilesRefuses, WrongMagic) {
  const TempDir dir;
  const auto expect_refused = [&](std::int32_t magic, const std::string& reason) {
    const std::string path = dir.write("a.bin", header_bytes({.magic = magic}));
    expect_data_error("--train " + path + ": " + reason, [&] { open_files({path}); });
  };
  expect_refused(7,
                 "starts with 7, not with the magic of an llm.c shard, 20240520; if it is raw "
                 "16-bit tokens, say --data-format nanogpt");
  expect_refused(20240801,
                 "is a shard of 32-bit Llama tokens (magic 20240801); Lathe reads 16-bit GPT-2 "
                 "tokens (magic 20240520)");
  expect_refused(20240326,
                 "is an llm.c model checkpoint (magic 20240326), not a token shard (20240520)");
  expect_refused(20240328, "is an llm.c tokenizer (magic 20240328), not a token shard (20240520)");
  expect_refused(20240522,
                 "is an llm.c evaluation file (magic 20240522), not a token shard (20240520)");
}

TEST(TokenFilesRefuses, WrongHeader) {
  const TempDir dir;
  const auto expect_refused = [&](const std::string& bytes, const std::string& reason) {
    const std::string path = dir.write("a.bin", bytes);
    expect_data_error("--train " + path + ": " + reason, [&] { open_files({path}); });
  };
  const std::string shard = shard_bytes(counting_tokens(0, 100));
  expect_refused("", "has 0 bytes; the header of an llm.c shard alone has 1024");
  expect_refused("abc", "has 3 bytes; the header of an llm.c shard alone has 1024");
  expect_refused(shard.substr(0, 1023),
                 "has 1023 bytes; the header of an llm.c shard alone has 1024");
  expect_refused(header_bytes({.version = 2}),
                 "is an llm.c shard of version 2; Lathe reads version 1");
  expect_refused(header_bytes({.tokens = -1}),
                 "its header says -1 tokens; a shard has between 0 and 2147483647");
  expect_refused(shard.substr(0, shard.size() - 1),
                 "its header says 100 tokens, which take 1224 bytes, but it has 1223; it may be "
                 "cut short");
  expect_refused(shard + "x",
                 "its header says 100 tokens, which take 1224 bytes, but it has 1225; it may not "
                 "be a shard");
}

TEST(TokenFilesRefuses, RawTokensOfOddSizeOrWithAHeader) {
  const TempDir dir;
  const std::string odd = dir.write("a.bin", "abc");
  expect_data_error(
      "--train " + odd + ": has 3 bytes; 16-bit tokens (--data-format nanogpt) take an even number",
      [&] { open_files({odd}, {.format = DataFormat::nanogpt}); });
  const std::string shard = dir.write("b.bin", shard_bytes(counting_tokens(0, 1)));
  expect_data_error(
      "--train " + shard + ": has the header of an llm.c shard; say --data-format llmc",
      [&] { open_files({shard}, {.format = DataFormat::nanogpt}); });
}

TEST(TokenFilesRefuses, FewerTokensThanASequenceInTheWholeSetOnly) {
  const TempDir dir;
  const std::string small = dir.write("a.txt", "ten bytes.");
  expect_data_error("--train " + small +
                        ": 10 tokens are fewer than one sequence of 65 (--seq-len 64 and its "
                        "targets)",
                    [&] { open_files({small}).require_sequences(64); });
  expect_data_error(
      "--train " + small + " " + small +
          ": no file has the 11 tokens of one sequence (--seq-len 10 and its targets)",
      [&] {
        open_files({small, small}).require_sequences(10);
      });
  EXPECT_NO_THROW(open_files({small, small}).require_sequences(9));
  EXPECT_NO_THROW(
      open_files({small, dir.write("b.txt", std::string(65, 'x')), dir.write("c.txt", "")})
          .require_sequences(64));
  expect_data_error("--train " + (dir / "c.txt") +
                        ": 0 tokens are fewer than one sequence of 2 (--seq-len 1 and its targets)",
                    [&] { open_files({dir / "c.txt"}).require_sequences(1); });
  expect_data_error(
      "--train " + small +
          " (the last tenth): 1 tokens are fewer than one sequence of 2 (--seq-len 1 "
          "and its targets)",
      [&] { open_files({small}, {.split = Split::validation}).require_sequences(1); });
}

TEST(TokenFilesRefuses, TokenOutsideTheVocabulary) {
  const TempDir dir;
  auto tokens = counting_tokens(0, 20000);
  tokens[17005] = 50257;
  const std::string path = dir.write("a.bin", shard_bytes(tokens));
  const std::string message = "--train " + path +
                              ": token 50257 at position 17005 is outside the vocabulary of "
                              "50257; --vocab 50258 would hold it";
  const TokenFiles files = open_files({path});
  expect_data_error(message, [&] { files.check_tokens(); });
  expect_data_error(message, [&] { sequence(files, 170, 100); });
  expect_data_error(message, [&] { sequence(files, 0, 19999); });
  EXPECT_NO_THROW(sequence(files, 169, 100));
  EXPECT_NO_THROW(files.check_tokens(2 * 17005));  // stops short of it
  expect_data_error(message, [&] { files.check_tokens(2 * 17006); });
  EXPECT_NO_THROW(open_files({path}, {.vocab = 50258}).check_tokens());
  EXPECT_NO_THROW(open_files({path}, {.vocab = 50304}).check_tokens());
}

TEST(TokenFilesRefuses, TokenOutsideASmallerVocabulary) {
  const TempDir dir;
  const std::string shard = dir.write("a.bin", shard_bytes(counting_tokens(0, 300)));
  expect_data_error("--train " + shard +
                        ": token 256 at position 256 is outside the vocabulary of 256; --vocab "
                        "50257 holds this data",
                    [&] { open_files({shard}, {.vocab = 256}).check_tokens(); });
  const std::string text = dir.write("a.txt", "plain \xc3\xa9");
  expect_data_error("--train " + text +
                        ": token 195 at position 6 is outside the vocabulary of 128; --vocab 256 "
                        "holds this data",
                    [&] { open_files({text}, {.vocab = 128}).check_tokens(); });
}

TEST(TokenFilesRefuses, CheckReachesTheLaterFiles) {
  const TempDir dir;
  dir.write("0.bin", shard_bytes(counting_tokens(0, 100)));
  const std::string bad = dir.write("1.bin", shard_bytes(counting_tokens(65535, 1)));
  expect_data_error("--train " + bad +
                        ": token 65535 at position 0 is outside the vocabulary of 50257; --vocab "
                        "65536 would hold it",
                    [&] { open_files({dir / "*.bin"}).check_tokens(); });
}

TEST(TokenFilesRefuses, FileThatShrinks) {
  const TempDir dir;
  const std::string path = dir.write("a.bin", shard_bytes(counting_tokens(0, 10001)));
  const TokenFiles files = open_files({path});
  const auto message = [&](int now) {
    return "--train " + path + ": had 21026 bytes when it was opened and has " +
           std::to_string(now) + " now; restore it and start again";
  };
  fs::resize_file(path, 21024);  // by one token, inside a page
  EXPECT_NO_THROW(sequence(files, 98, 100));
  expect_data_error(message(21024), [&] { sequence(files, 99, 100); });
  fs::resize_file(path, 0);
  expect_data_error(message(0), [&] { sequence(files, 0, 100); });
}

TEST(TokenFilesRefuses, MoreFilesThanTheHardLimit) {
  const TempDir dir;
  for (int i = 0; i < 100; ++i) dir.write(std::to_string(i) + ".txt", "abc");
  const auto open_with_few = [&] {
    const rlimit low{.rlim_cur = 50, .rlim_max = 50};
    setrlimit(RLIMIT_NOFILE, &low);
    try {
      open_files({dir / "*.txt"});
    } catch (const Error& error) {
      std::cerr << error.what();
      std::_Exit(static_cast<int>(error.code()));
    }
    std::_Exit(0);
  };
  EXPECT_EXIT(open_with_few(), testing::ExitedWithCode(3), "too many open files; raise the limit");
}

// Whatever a shard's bytes are, it is refused as data or its tokens are those of its bytes.
TEST(TokenFilesRefuses, MutatedShardsNeverCrash) {
  const TempDir dir;
  std::mt19937 random(1);
  const auto below = [&](std::size_t count) { return random() % count; };
  const std::string whole = shard_bytes(counting_tokens(0, 300));
  int opened = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    std::string bytes = whole;
    for (std::size_t i = below(3); i > 0; --i) bytes[below(12)] ^= static_cast<char>(1 << below(8));
    for (std::size_t i = below(3); i > 0; --i)
      bytes[below(bytes.size())] = static_cast<char>(random());
    if (below(3) == 0) bytes.resize(below(2) == 0 ? below(1700) : bytes.size() + below(5));
    fs::remove(dir / "a.bin");  // rewriting a file in place can wait for the disk
    const std::string path = dir.write("a.bin", bytes);
    const std::array formats = {DataFormat::automatic, DataFormat::nanogpt, DataFormat::text};
    try {
      const TokenFiles files = open_files({path}, {.format = formats[below(formats.size())]});
      ++opened;
      const auto seq_len = static_cast<std::int64_t>(1 + below(40));
      for (std::int64_t i = 0; i < files.sequences(seq_len); ++i) {
        for (const std::int32_t token : sequence(files, i, seq_len))
          ASSERT_LT(token, files.vocab());
      }
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ExitCode::data) << error.what();
    }
  }
  EXPECT_GT(opened, 500);
  EXPECT_LT(opened, 1900);
}

}  // namespace
}  // namespace lathe
