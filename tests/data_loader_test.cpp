#include "lathe/data_loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <set>
#include <thread>

#include "support/expect_error.h"
#include "support/open_files.h"
#include "support/shards.h"
#include "support/temp_dir.h"

namespace lathe {
namespace {

using test::counting_tokens;
using test::expect_error;
using test::open_files;
using test::shard_bytes;
using test::TempDir;
using Tokens = std::vector<std::int32_t>;

// 1000 sequences of three tokens, in shards of 10, 300, 0 and 690 sequences with left-overs. The
// first token of each is its number times 10 in file order.
constexpr std::int64_t kSequences = 1000;
constexpr std::int64_t kSeqLen = 3;

class DataLoaderTest : public testing::Test {
 protected:
  DataLoaderTest() {
    int shard = 0;
    std::uint16_t sequence = 0;
    for (const int count : {10, 300, 0, 690}) {
      std::vector<std::uint16_t> tokens;
      for (int i = 0; i < count; ++i, ++sequence) {
        for (int t = 0; t < kSeqLen; ++t)
          tokens.push_back(static_cast<std::uint16_t>(sequence * 10 + t));
      }
      tokens.resize(tokens.size() + 2, 50256);
      dir_.write(std::to_string(shard++) + ".bin", shard_bytes(tokens));
    }
    files_ = open_files({dir_ / "*.bin"});
  }

  static DataLoaderOptions options(std::int64_t rows, bool shuffle = true) {
    return {.seq_len = kSeqLen, .seed = 42, .shuffle = shuffle, .rows_per_read = rows};
  }

  // The file-order numbers of the next `batches` batches, with each row's tokens and targets
  // checked.
  static Tokens take(DataLoader& loader, std::int64_t rows, int batches) {
    Tokens taken, tokens(static_cast<std::size_t>(rows * kSeqLen)), targets(tokens.size());
    for (int batch = 0; batch < batches; ++batch) {
      loader.next(tokens, targets);
      for (std::size_t at = 0; at < tokens.size(); at += kSeqLen) {
        const std::int32_t first = tokens[at];
        const bool shard_ends = first == 90 || first == 3090 || first == 9990;
        EXPECT_EQ(first % 10, 0);
        EXPECT_EQ(tokens[at + 1], first + 1);
        EXPECT_EQ(tokens[at + 2], first + 2);
        EXPECT_EQ(targets[at], first + 1);
        EXPECT_EQ(targets[at + 1], first + 2);
        EXPECT_EQ(targets[at + 2], shard_ends ? 50256 : first + 10);
        taken.push_back(first / 10);
      }
    }
    return taken;
  }

  Tokens first_epochs(std::int64_t rows, int epochs) const {
    DataLoader loader(files_, options(rows), {});
    const auto count = static_cast<std::size_t>(epochs * kSequences);
    Tokens taken = take(loader, rows, static_cast<int>((epochs * kSequences + rows - 1) / rows));
    taken.resize(count);
    return taken;
  }

  TempDir dir_;
  TokenFiles files_ = TokenFiles::from_text("", "");
};

TEST_F(DataLoaderTest, EveryEpochIsAPermutationOfItsOwn) {
  ASSERT_EQ(files_.sequences(kSeqLen), kSequences);
  const Tokens taken = first_epochs(8, 3);
  std::set<Tokens> orders;
  for (int epoch = 0; epoch < 3; ++epoch) {
    const auto begin = taken.begin() + epoch * kSequences;
    Tokens order(begin, begin + kSequences);
    orders.insert(order);
    std::ranges::sort(order);
    for (std::int32_t i = 0; i < kSequences; ++i) ASSERT_EQ(order[static_cast<std::size_t>(i)], i);
  }
  EXPECT_EQ(orders.size(), 3u);
}

TEST_F(DataLoaderTest, OrderDoesNotDependOnTheBatch) {
  const Tokens expected = first_epochs(1, 3);
  for (const std::int64_t rows : {2, 7, 64, 999, 1000, 1001, 2500}) {
    EXPECT_EQ(first_epochs(rows, 3), expected) << rows;
  }
}

TEST_F(DataLoaderTest, SeedsDiffer) {
  DataLoaderOptions other = options(1000);
  other.seed = 43;
  DataLoader loader(files_, other, {});
  EXPECT_NE(take(loader, 1000, 1), first_epochs(1000, 1));
}

TEST_F(DataLoaderTest, ResumeNeitherRepeatsNorSkips) {
  const Tokens expected = first_epochs(1, 3);
  for (const int batches : {0, 1, 14, 142, 143, 285, 286}) {  // of 7, so 1000 lies inside one
    DataLoader before(files_, options(7), {});
    Tokens taken = take(before, 7, batches);
    const DataPosition position = before.position();
    ASSERT_EQ(position.epoch * kSequences + position.sequence, static_cast<unsigned>(7 * batches));
    ASSERT_LT(position.sequence, static_cast<std::uint64_t>(kSequences));
    DataLoader after(files_, options(16), position);
    EXPECT_EQ(after.position(), position);
    const Tokens rest = take(after, 16, 40);
    taken.insert(taken.end(), rest.begin(), rest.end());
    EXPECT_TRUE(std::equal(taken.begin(), taken.end(), expected.begin())) << batches;
  }
}

TEST_F(DataLoaderTest, PositionAtTheEndOfAnEpochIsTheNextOnesStart) {
  DataLoader loader(files_, options(500), {});
  take(loader, 500, 1);
  EXPECT_EQ(loader.position(), (DataPosition{.epoch = 0, .sequence = 500}));
  take(loader, 500, 1);
  EXPECT_EQ(loader.position(), (DataPosition{.epoch = 1, .sequence = 0}));
}

TEST_F(DataLoaderTest, WithoutShuffleEveryEpochIsInFileOrder) {
  DataLoader loader(files_, options(300, false), {});
  const Tokens taken = take(loader, 300, 7);
  for (std::size_t i = 0; i < taken.size(); ++i) {
    ASSERT_EQ(taken[i], static_cast<std::int32_t>(i) % kSequences);
  }
}

// The layout that is promised for --no-shuffle: step k, row b takes tokens [((k*rows+b)*T), ...
// +T].
TEST(DataLoader, WithoutShuffleStepsFollowTheFormula) {
  const TempDir dir;
  constexpr std::int64_t kRows = 3, kT = 5;
  const TokenFiles files = open_files({dir.write("a.bin", shard_bytes(counting_tokens(0, 40000)))});
  DataLoader loader(files, {.seq_len = kT, .seed = 1, .shuffle = false, .rows_per_read = kRows},
                    {});
  Tokens tokens(kRows * kT), targets(kRows * kT);
  for (std::int64_t k = 0; k < 2000; ++k) {
    loader.next(tokens, targets);
    for (std::int64_t b = 0; b < kRows; ++b) {
      for (std::int64_t t = 0; t < kT; ++t) {
        const auto at = static_cast<std::size_t>(b * kT + t);
        ASSERT_EQ(tokens[at], (k * kRows + b) * kT + t);
        ASSERT_EQ(targets[at], (k * kRows + b) * kT + t + 1);
      }
    }
  }
}

TEST(DataLoader, BatchMayBeLargerThanAnEpoch) {
  const TokenFiles files = TokenFiles::from_text("abcdefg", "text");  // two sequences of three
  DataLoader loader(files, {.seq_len = 3, .seed = 1, .shuffle = false, .rows_per_read = 5}, {});
  Tokens tokens(15), targets(15);
  loader.next(tokens, targets);
  EXPECT_EQ(std::string(tokens.begin(), tokens.end()), "abcdefabcdefabc");
  EXPECT_EQ(std::string(targets.begin(), targets.end()), "bcdefgbcdefgbcd");
  EXPECT_EQ(loader.position(), (DataPosition{.epoch = 2, .sequence = 1}));
}

// Frozen: a change of these changes what every run with a seed learns from.
TEST(DataOrder, Golden) {
  const auto first_16 = [](std::uint64_t epoch) {
    std::vector<std::int64_t> order;
    for (std::uint64_t i = 0; i < 16; ++i) {
      order.push_back(sequence_at({.seed = 42, .count = 1000, .shuffle = true},
                                  {.epoch = epoch, .sequence = i}));
    }
    return order;
  };
  EXPECT_EQ(first_16(0), (std::vector<std::int64_t>{754, 664, 262, 172, 854, 339, 898, 92, 415, 758,
                                                    661, 422, 732, 378, 688, 519}));
  EXPECT_EQ(first_16(1), (std::vector<std::int64_t>{753, 871, 218, 287, 673, 744, 275, 77, 889, 212,
                                                    243, 446, 661, 16, 0, 134}));
}

TEST_F(DataLoaderTest, RefusesAPositionOutsideTheData) {
  EXPECT_NO_THROW(DataLoader(files_, options(1), {.epoch = 9, .sequence = 999}));
  expect_error(ExitCode::data,
               "cannot go on at sequence 1000 of an epoch: the data have 1000 sequences of 3 "
               "tokens; are they those of the first run?",
               [&] { DataLoader(files_, options(1), {.epoch = 0, .sequence = 1000}); });
}

TEST(DataLoader, RefusesDataWithoutASequence) {
  expect_error(ExitCode::data,
               "short: 3 tokens are fewer than one sequence of 4 (--seq-len 3 and its targets)",
               [] {
                 DataLoader(TokenFiles::from_text("abc", "short"),
                            {.seq_len = 3, .seed = 1, .shuffle = true, .rows_per_read = 1}, {});
               });
}

TEST(DataLoader, RefusesABatchOfAnotherSize) {
  DataLoader loader(TokenFiles::from_text("abcdefg", "text"),
                    {.seq_len = 3, .seed = 1, .shuffle = true, .rows_per_read = 2}, {});
  Tokens right(6), wrong(5);
  const auto expect_refused = [&](Tokens& tokens, Tokens& targets, const std::string& sizes) {
    expect_error(ExitCode::internal, "a batch of 6 tokens does not fit " + sizes,
                 [&] { loader.next(tokens, targets); });
  };
  expect_refused(wrong, right, "5 tokens and 6 targets");
  expect_refused(right, wrong, "6 tokens and 5 targets");
  EXPECT_NO_THROW(loader.next(right, right));
}

// The token that is wrong stands in the fourth batch: three come out right, then the error comes,
// and comes again.
TEST(DataLoader, PassesOnTheReadersErrorInItsPlace) {
  const TempDir dir;
  auto tokens = counting_tokens(0, 101);
  tokens[35] = 60000;
  const std::string path = dir.write("a.bin", shard_bytes(tokens));
  DataLoader loader(open_files({path}),
                    {.seq_len = 5, .seed = 1, .shuffle = false, .rows_per_read = 2}, {});
  Tokens batch(10), targets(10);
  for (std::int32_t i = 0; i < 3; ++i) {
    if (i == 2) std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the reader fails
    loader.next(batch, targets);
    EXPECT_EQ(batch[0], 10 * i);
  }
  for (int i = 0; i < 2; ++i) {
    expect_error(ExitCode::data,
                 "--train " + path +
                     ": token 60000 at position 35 is outside the vocabulary of 50257; --vocab "
                     "60001 would hold it",
                 [&] { loader.next(batch, targets); });
  }
  EXPECT_EQ(loader.position(), (DataPosition{.epoch = 0, .sequence = 6}));
}

TEST(DataLoader, FileThatShrinksUnderTheRunIsADataError) {
  const TempDir dir;
  for (const std::int64_t left : {0, 1023, 4096, 40000, 41025}) {  // the last inside a page, by 1
    const std::string path = dir.write("a.bin", shard_bytes(counting_tokens(0, 20001)));
    DataLoader loader(open_files({path}),
                      {.seq_len = 8, .seed = 1, .shuffle = true, .rows_per_read = 4}, {});
    Tokens tokens(32), targets(32);
    for (int i = 0; i < 3; ++i) loader.next(tokens, targets);
    std::filesystem::resize_file(path, static_cast<std::uintmax_t>(left));
    expect_error(ExitCode::data,
                 "--train " + path + ": had 41026 bytes when it was opened and has " +
                     std::to_string(left) + " now; restore it and start again",
                 [&] {
                   for (int i = 0; i < 1000; ++i) {
                     loader.next(tokens, targets);
                     for (std::size_t t = 0; t < 32; ++t) ASSERT_EQ(targets[t], tokens[t] + 1);
                   }
                 });
  }
}

TEST(DataLoader, EndsCleanlyWhateverItsReaderIsDoing) {
  const TokenFiles files = TokenFiles::from_text(std::string(100000, 'a'), "text");
  Tokens tokens(4000), targets(4000);
  for (int i = 0; i < 300; ++i) {
    DataLoader loader(files, {.seq_len = 100, .seed = 1, .shuffle = true, .rows_per_read = 40}, {});
    for (int batch = 0; batch < i % 4; ++batch) loader.next(tokens, targets);
  }
}

}  // namespace
}  // namespace lathe
