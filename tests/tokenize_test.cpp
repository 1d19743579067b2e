// Text into tokens and shards: cut into pieces of any size and encoded by any number of threads,
// the tokens are those of each whole document, which the tests encode and divide for themselves.
#include "lathe/tokenize.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <future>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "data/text_reader.h"
#include "lathe/stop_signal.h"
#include "support/error_of.h"
#include "support/file_size_limit.h"
#include "support/json.h"
#include "support/shards.h"
#include "support/temp_dir.h"
#include "support/tokenize_in_memory.h"
#include "support/word_tokenizer.h"

namespace lathe::test {
namespace {

namespace fs = std::filesystem;
using Tokens = std::vector<std::uint16_t>;

const WordTokenizer kWords;

// Words, digits, marks and every kind of white space, in runs.
std::string random_text(std::size_t pieces, std::uint32_t seed) {
  static constexpr const char* kPieces[] = {"a",
                                            "Word",
                                            "it's",
                                            "we'll",
                                            "12",
                                            "!?",
                                            " ",
                                            " ",
                                            " ",
                                            "  ",
                                            "\n",
                                            "\r\n",
                                            "\n\n",
                                            "\t",
                                            "\x0B",
                                            "\xC2\x85",
                                            "\xC2\xA0",
                                            "\xE2\x80\xA8",
                                            "\xE3\x80\x80",
                                            "\xC3\xA9t\xC3\xA9",
                                            "\xF0\x9F\x99\x82",
                                            "\xE6\xBC\xA2"};
  std::mt19937 random(seed);
  std::string text;
  for (std::size_t i = 0; i < pieces; ++i) text += kPieces[random() % std::size(kPieces)];
  return text;
}

TextSpec spec_of(std::vector<std::string> paths) {
  return {.paths = std::move(paths),
          .lines = std::nullopt,
          .text_field = "text",
          .validation_fraction = 0,
          .threads = 1};
}

void append(Tokens& to, const Tokens& tokens) {
  to.insert(to.end(), tokens.begin(), tokens.end());
}

class Tokenize : public testing::Test {
 protected:
  Tokens tokens(const TextSpec& spec, Part part = Part::training) {
    return tokenize_in_memory(spec, kWords, part);
  }

  // The same tokens, however the text is cut and whoever encodes it.
  void expect_tokens(TextSpec spec, const Tokens& training, const Tokens& validation = {}) {
    for (const std::size_t piece_bytes : {1, 2, 3, 7, 50, 1000, 1 << 20}) {
      for (const int threads : {1, 2, 5}) {
        SCOPED_TRACE(std::to_string(piece_bytes) + " bytes, threads " + std::to_string(threads));
        spec.piece_bytes = piece_bytes;
        spec.threads = threads;
        ASSERT_EQ(tokens(spec), training);
        ASSERT_EQ(tokens(spec, Part::validation), validation);
      }
    }
  }

  TempDir dir_;
};

TEST_F(Tokenize, PiecesHaveTheTokensOfTheWhole) {
  for (std::uint32_t seed = 0; seed < 10; ++seed) {
    SCOPED_TRACE(seed);
    const std::string text = random_text(400, seed);
    expect_tokens(spec_of({dir_.write("a.txt", text)}), word_tokens(text));
  }
}

TEST_F(Tokenize, FilesAreDocumentsInTheOrderGiven) {
  const std::string first = random_text(50, 1), second = random_text(70, 2);
  Tokens expected = word_tokens(second);
  append(expected, word_tokens(first));
  expect_tokens(spec_of({dir_.write("b.txt", second), dir_.write("empty.txt", ""),
                         dir_.write("a.txt", first)}),
                expected);
}

TEST_F(Tokenize, BytesHaveNoEndOfText) {
  const std::string text = random_text(100, 3);
  const auto tokens =
      tokenize_in_memory(spec_of({dir_.write("a.txt", text)}), *byte_tokenizer(), Part::training);
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  EXPECT_EQ(tokens, Tokens(bytes, bytes + text.size()));
}

TEST_F(Tokenize, EndOfTextInATextStaysText) {
  const std::string text = "one<|endoftext|>two";
  const Tokens tokens = this->tokens(spec_of({dir_.write("a.txt", text)}));
  EXPECT_EQ(tokens, word_tokens(text));
  EXPECT_EQ(std::ranges::count(tokens, kWordEndOfText), 1);
}

TEST_F(Tokenize, TheEndOfEachFileValidates) {
  const std::string first = random_text(300, 4), second = random_text(100, 5);
  TextSpec spec = spec_of({dir_.write("a.txt", first), dir_.write("b.txt", second)});
  spec.validation_fraction = 0.1;
  Tokens training, validation;
  for (const std::string& text : {first, second}) {
    std::size_t boundary = text.size() * 9 / 10;
    while ((static_cast<unsigned char>(text[boundary]) & 0xC0) == 0x80) ++boundary;
    append(training, word_tokens(text.substr(0, boundary)));
    append(validation, word_tokens(text.substr(boundary)));
  }
  expect_tokens(spec, training, validation);
}

TEST_F(Tokenize, SeparatorsDivideDocuments) {
  for (const std::string separator : {"<|endoftext|>", "\n\n", "\n \n", "aa"}) {
    SCOPED_TRACE(separator);
    std::string text;
    Tokens training, validation;
    for (std::uint32_t i = 1; i <= 40; ++i) {
      std::string document = i % 7 == 0 ? "" : random_text(i % 30, 100 + i);
      for (std::size_t at; (at = document.find(separator)) != std::string::npos;) {
        document.erase(at, separator.size());
      }
      // What would make a separator of its own with what is around it.
      while (!document.empty() && separator.find(document.back()) != std::string::npos) {
        document.pop_back();
      }
      text += document + separator;
      if (!document.empty()) append(i % 4 == 0 ? validation : training, word_tokens(document));
    }
    TextSpec spec = spec_of({dir_.write("a.txt", text)});
    spec.document_separator = separator;
    spec.validation_fraction = 0.25;
    expect_tokens(spec, training, validation);
  }
}

TEST_F(Tokenize, ASeparatorAtTheEndsBeginsNoDocument) {
  TextSpec spec = spec_of({dir_.write("a.txt", "--one----two--"), dir_.write("b.txt", "three")});
  spec.document_separator = "--";
  Tokens expected;
  for (const char* text : {"one", "two", "three"}) append(expected, word_tokens(text));
  expect_tokens(spec, expected);
}

TEST_F(Tokenize, JsonLinesAreDocuments) {
  std::string lines;
  Tokens training, validation;
  for (std::uint32_t i = 1; i <= 30; ++i) {
    const std::string text = i % 11 == 0 ? "" : random_text(i, 200 + i);
    const nlohmann::json line = {{"id", i}, {"body", text}, {"more", {{"text", "not this"}}}};
    lines += line.dump(-1, ' ', /*ensure_ascii=*/i % 2 == 0);
    if (i < 30) lines += i % 3 == 0 ? "\r\n" : "\n";  // and the last line has no end
    if (!text.empty()) append(i % 5 == 0 ? validation : training, word_tokens(text));
  }
  TextSpec spec = spec_of({dir_.write("a.jsonl", lines)});
  spec.text_field = "body";
  spec.validation_fraction = 0.2;
  expect_tokens(spec, training, validation);
}

TEST_F(Tokenize, BlankLinesAreNoDocuments) {
  const auto path =
      dir_.write("a.jsonl", "\n{\"text\": \"one\"}\n \t\r\n\r\n{\"text\": \"two\"}\n\n");
  Tokens expected = word_tokens("one");
  append(expected, word_tokens("two"));
  expect_tokens(spec_of({path}), expected);
}

TEST_F(Tokenize, AnyFileMayBeSaidToBeLines) {
  TextSpec spec = spec_of({dir_.write("a.json", "{\"text\": \"one\"}\n")});
  EXPECT_EQ(tokens(spec), word_tokens("{\"text\": \"one\"}\n"));
  spec.lines = true;
  EXPECT_EQ(tokens(spec), word_tokens("one"));
  spec = spec_of({dir_.write("a.jsonl", "{\"text\": \"one\"}\n")});
  spec.lines = false;
  EXPECT_EQ(tokens(spec), word_tokens("{\"text\": \"one\"}\n"));
}

// nanoGPT's counts for its split of the same text, and a token for each of the two documents.
TEST_F(Tokenize, TinyShakespeareHasItsKnownCounts) {
  const char* data = std::getenv("LATHE_TEST_DATA");
  if (data == nullptr) GTEST_SKIP() << "LATHE_TEST_DATA is not set";
  const auto gpt2 = open_tokenizer(std::string(data) + "/gpt2/vocab.bpe");
  TextSpec spec = spec_of({std::string(data) + "/data/tinyshakespeare.txt"});
  spec.piece_bytes = 10'000;
  spec.threads = 2;
  const Tokens all = tokenize_in_memory(spec, *gpt2, Part::training);
  EXPECT_EQ(all.size(), 338'025u + 1);
  spec.validation_fraction = 0.1;
  const Tokens training = tokenize_in_memory(spec, *gpt2, Part::training);
  EXPECT_EQ(training.size(), 301'966u + 1);
  EXPECT_EQ(tokenize_in_memory(spec, *gpt2, Part::validation).size(), 36'059u + 1);
  EXPECT_TRUE(std::equal(training.begin(), training.end() - 1, all.begin()));
}

// With any number of threads the first wrong line is the one that is named.
TEST_F(Tokenize, AWrongLineIsNamed) {
  std::string right;
  for (int i = 0; i < 500; ++i) right += "{\"text\": \"right\"}\n";
  const auto error = [&](const std::string& line) {
    TextSpec spec = spec_of({dir_.write("a.jsonl", right + line + right + "[]\n")});
    spec.piece_bytes = 200;
    spec.threads = 4;
    return error_of([&] { tokens(spec); });
  };
  const std::string start = "exit 3: " + dir_ / "a.jsonl" + ": line 501: ";
  const std::string field = start + "must be an object with a string \"text\" (--text-field)";
  EXPECT_EQ(error("{\"text\": \"cut\n"), start + "not valid JSON at byte 14");
  EXPECT_EQ(error("{\"text\": 1}\n"), field);
  EXPECT_EQ(error("{\"texts\": \"\"}\n"), field);
  EXPECT_EQ(error("\"text\"\n"), field);
  EXPECT_EQ(error("{\"text\": \"a\", \"text\": \"b\"}\n"), start + "key \"text\" stands twice");
  EXPECT_EQ(error("{\"text\": \"\xff\"}\n"), start + "not valid JSON at byte 11");
}

class CountingTokenizer final : public Tokenizer {
 public:
  std::string name() const override { return "counting"; }
  std::int64_t vocab() const override { return 1; }
  std::int32_t first_token() const override { return 0; }
  std::optional<std::int32_t> end_of_text() const override { return std::nullopt; }
  std::string_view bytes(std::int32_t) const override { return ""; }
  std::unique_ptr<Encoder> make_encoder() const override {
    return std::make_unique<CountingEncoder>(encoded_);
  }
  int encoded() const { return encoded_; }

 private:
  class CountingEncoder final : public Encoder {
   public:
    explicit CountingEncoder(std::atomic<int>& encoded) : encoded_(encoded) {}
    void encode(std::string_view, std::vector<std::int32_t>&) override { ++encoded_; }

   private:
    std::atomic<int>& encoded_;
  };

  mutable std::atomic<int> encoded_ = 0;
};

// One thread waits for text when what the other one gives out fails: then it reads no more, whether
// there is more or not.
TEST_F(Tokenize, AFailureEndsTheReading) {
  class FailingSink final : public TokenSink {
   public:
    void append(std::span<const std::uint16_t>, Part) override {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the other one reads
      has_failed = true;
      throw Error(ExitCode::storage, "full");
    }
    void progress(const TokenizeProgress&) override {}
    std::atomic<bool> has_failed = false;
  };
  TextSpec spec = spec_of({dir_ / "pipe"});
  ASSERT_EQ(::mkfifo(spec.paths[0].c_str(), 0600), 0);
  const FileDescriptor reader(
      ::open(spec.paths[0].c_str(), O_RDONLY | O_NONBLOCK));  // so that no writer gets a SIGPIPE
  spec.piece_bytes = 6;
  spec.threads = 2;
  for (const int more_words : {0, 5000}) {
    SCOPED_TRACE(more_words);
    FailingSink sink;
    std::promise<void> ended;
    const std::jthread writer([&, has_ended = ended.get_future()] {
      OutputFile pipe(spec.paths[0], OutputFile::Mode::append);
      pipe.write("words words ");  // a piece, and another that has not ended
      while (!sink.has_failed) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      std::string text;
      for (int i = 0; i < more_words; ++i) text += "words ";
      pipe.write(text);
      EXPECT_EQ(has_ended.wait_for(std::chrono::seconds(5)), std::future_status::ready);
    });
    const CountingTokenizer tokenizer;
    EXPECT_EQ(error_of([&] { tokenize(spec, tokenizer, sink); }), "exit 6: full");
    ended.set_value();
    EXPECT_LT(tokenizer.encoded(), 10);
  }
}

TEST_F(Tokenize, FilesThatCannotBeReadAreNamed) {
  const auto error = [&](const std::string& path) {
    return error_of([&] { tokens(spec_of({dir_.write("a.txt", "text"), path})); });
  };
  EXPECT_EQ(error(dir_ / "none"),
            "exit 3: " + dir_ / "none" + ": cannot be opened: No such file or directory");
  EXPECT_EQ(error(dir_.path().string()),
            "exit 3: " + dir_.path().string() + ": is a folder; name the files in it");
  TextSpec pipe = spec_of({"-"});
  pipe.validation_fraction = 0.1;
  EXPECT_EQ(error_of([&] { tokens(pipe); }),
            "exit 3: stdin: is a pipe, whose end --val-fraction cannot know; save it in a file, or "
            "give --document-separator or --val-fraction 0");
}

// Text without a place to be cut at, and lines without an end, are kept up to a limit.
TEST_F(Tokenize, LongWordsAreCutAndLongLinesRefused) {
  std::string word;
  while (word.size() < 1000) word += "\xE6\xBC\xA2";
  const auto pieces = [&](const std::string& path) {
    TextReader reader({.paths = {path},
                       .lines = std::nullopt,
                       .document_separator = "",
                       .piece_bytes = 50,
                       .longest_piece = 200});
    std::vector<std::string> texts;
    while (auto piece = reader.next()) texts.push_back(piece->text);
    return texts;
  };
  std::string all;
  for (const std::string& text : pieces(dir_.write("a.txt", word))) {
    EXPECT_LT(text.size(), 400u);
    EXPECT_EQ(text.size() % 3, 0u);
    all += text;
  }
  EXPECT_EQ(all, word);
  const auto path = dir_.write("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"" + word + "\"}\n");
  EXPECT_EQ(error_of([&] { pieces(path); }),
            "exit 3: " + path +
                ": line 2 has more than 200 bytes; is it a .jsonl file, with a "
                "document on each line?");
}

TEST_F(Tokenize, ATextThatShrinksIsRefused) {
  const auto path = dir_.write("a.txt", std::string(5000, 'a'));
  TextReader reader({.paths = {path}, .lines = std::nullopt, .document_separator = ""});
  fs::resize_file(path, 100);
  EXPECT_EQ(error_of([&] { reader.next(); }),
            "exit 3: " + path +
                ": ends 4900 bytes before its size when it was opened; restore it "
                "and start again");
}

TEST_F(Tokenize, ATokenizerOfTooManyTokensIsRefused) {
  class Large final : public Tokenizer {
   public:
    std::string name() const override { return "large"; }
    std::int64_t vocab() const override { return 65537; }
    std::int32_t first_token() const override { return 0; }
    std::optional<std::int32_t> end_of_text() const override { return std::nullopt; }
    std::string_view bytes(std::int32_t) const override { return ""; }
    std::unique_ptr<Encoder> make_encoder() const override { return kWords.make_encoder(); }
  };
  const auto path = dir_.write("a.txt", "text");
  EXPECT_EQ(error_of([&] { tokenize_in_memory(spec_of({path}), Large(), Part::training); }),
            "exit 2: --tokenizer large: has 65537 tokens; a shard holds ids below 65536");
}

// The shards of a folder, by name.
std::vector<std::pair<std::string, std::string>> files_in(const fs::path& folder) {
  std::vector<std::pair<std::string, std::string>> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    files.emplace_back(entry.path().filename().string(), read_file(entry.path()));
  }
  std::ranges::sort(files);
  return files;
}

class Shards : public Tokenize {
 protected:
  ShardSink write(const TextSpec& spec, std::int64_t shard_tokens, bool has_parts) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    ShardSink sink({.folder = folder_, .shard_tokens = shard_tokens, .has_parts = has_parts},
                   [](const TokenizeProgress&) {});
    EXPECT_TRUE(tokenize(spec, kWords, sink));
    sink.finish();
    return sink;
  }

  // Tokens as shards of so many, with the names that they should have.
  static void add_shards(const Tokens& tokens, std::size_t shard_tokens, const std::string& prefix,
                         int number, std::vector<std::pair<std::string, std::string>>& files) {
    for (std::size_t at = 0; at < tokens.size(); at += shard_tokens, ++number) {
      const auto count = std::min(shard_tokens, tokens.size() - at);
      const std::string digits = std::to_string(1'000'000 + number).substr(1);
      std::string name = prefix;
      name.append("_").append(digits).append(".bin");
      files.emplace_back(name, shard_bytes(std::span(tokens).subspan(at, count)));
    }
    std::ranges::sort(files);
  }

  fs::path folder_ = dir_.path() / "shards";
};

TEST_F(Shards, HoldTheTokensWhereverTheyEnd) {
  const std::string text = random_text(60, 6);
  const Tokens all = word_tokens(text);
  TextSpec spec = spec_of({dir_.write("a.txt", text)});
  const std::size_t sizes[] = {1, 7, 20, all.size() - 1, all.size(), all.size() + 1};
  for (const std::size_t size : sizes) {
    for (const int threads : {1, 3}) {
      SCOPED_TRACE(std::to_string(size) + " tokens, threads " + std::to_string(threads));
      spec.threads = threads;
      spec.piece_bytes = 16;
      const ShardSink sink = write(spec, static_cast<std::int64_t>(size), /*has_parts=*/true);
      std::vector<std::pair<std::string, std::string>> expected;
      add_shards(all, size, "train", 1, expected);
      EXPECT_EQ(files_in(folder_), expected);
      EXPECT_EQ(sink.train(),
                (DatasetPart{.tokens = std::ssize(all), .shards = std::ssize(expected)}));
      EXPECT_EQ(sink.val(), DatasetPart{});
    }
  }
}

TEST_F(Shards, TheFirstValidatesOrATenthOfAnOnlyOne) {
  const std::string text = random_text(300, 7);
  const Tokens all = word_tokens(text);
  const TextSpec spec = spec_of({dir_.write("a.txt", text)});
  for (const std::size_t size : {std::size_t{10}, all.size() - 1}) {
    write(spec, static_cast<std::int64_t>(size), /*has_parts=*/false);
    std::vector<std::pair<std::string, std::string>> expected;
    add_shards({all.begin(), all.begin() + static_cast<std::ptrdiff_t>(size)}, size, "val", 0,
               expected);
    add_shards({all.begin() + static_cast<std::ptrdiff_t>(size), all.end()}, size, "train", 1,
               expected);
    EXPECT_EQ(files_in(folder_), expected) << size;
  }
  for (const std::size_t size : {all.size(), all.size() + 1000}) {
    const ShardSink sink = write(spec, static_cast<std::int64_t>(size), /*has_parts=*/false);
    const auto kept = static_cast<std::ptrdiff_t>(all.size() - all.size() / 10);
    std::vector<std::pair<std::string, std::string>> expected;
    add_shards({all.begin(), all.begin() + kept}, size, "train", 1, expected);
    add_shards({all.begin() + kept, all.end()}, size, "val", 0, expected);
    EXPECT_EQ(files_in(folder_), expected) << size;
    EXPECT_EQ(sink.train(), (DatasetPart{.tokens = kept, .shards = 1}));
    EXPECT_EQ(sink.val(), (DatasetPart{.tokens = std::ssize(all) - kept, .shards = 1}));
  }
}

TEST_F(Shards, OfNothingThereAreNone) {
  for (const bool has_parts : {true, false}) {
    const ShardSink sink = write(spec_of({dir_.write("a.txt", "")}), 10, has_parts);
    EXPECT_EQ(files_in(folder_).size(), 0u);
    EXPECT_EQ(sink.train(), DatasetPart{});
    EXPECT_EQ(sink.last_progress().documents, 0);
  }
}

TEST_F(Shards, WhoseNamesWouldNotSortAreRefused) {
  ShardWriter writer(
      {.folder = dir_.path(), .prefix = "train", .first_number = 999'999, .shard_tokens = 1});
  writer.append(Tokens{1});
  EXPECT_EQ(error_of([&] { writer.append(Tokens{2}); }),
            "exit 2: --shard-tokens 1: makes more than 999999 shards, whose names would not sort; "
            "give more");
}

TEST_F(Shards, OnAFullDiskAreAnError) {
  const auto path = dir_.write("a.txt", random_text(5000, 8));
  fs::create_directories(folder_);
  ShardSink sink({.folder = folder_, .shard_tokens = 100'000, .has_parts = true},
                 [](const TokenizeProgress&) {});
  const FileSizeLimit limit(4096);
  TextSpec spec = spec_of({path});
  spec.threads = 2;
  EXPECT_EQ(
      error_of([&] { tokenize(spec, kWords, sink); }),
      "exit 6: " + (folder_ / "train_000001.bin").string() + ": cannot write: File too large");
}

TEST_F(Shards, AStopSignalEndsTheWork) {
  const StopSignalWatch watch;
  class Stopper final : public TokenSink {
   public:
    void append(std::span<const std::uint16_t>, Part) override {}
    void progress(const TokenizeProgress&) override {
      if (++pieces != 3) return;
      for (int i = 0; i < 2; ++i) std::raise(SIGTERM);  // as timeout(1) does
    }
    int pieces = 0;
  };
  Stopper stopper;
  TextSpec spec = spec_of({dir_.write("a.txt", random_text(5000, 9))});
  spec.piece_bytes = 100;
  EXPECT_FALSE(tokenize(spec, kWords, stopper));
  EXPECT_EQ(stopper.pieces, 3);
  EXPECT_EQ(stop_signal(), SIGTERM);
  watch_stop_signals();  // forgets it
}

// What nohup(1) does.
TEST_F(Shards, AHangupThatIsIgnoredStaysSo) {
  ASSERT_NE(std::signal(SIGHUP, SIG_IGN), SIG_ERR);
  {
    const StopSignalWatch watch;
    std::raise(SIGHUP);
    EXPECT_EQ(stop_signal(), 0);
  }
  std::raise(SIGHUP);  // would end the tests
  EXPECT_EQ(std::signal(SIGHUP, SIG_DFL), SIG_IGN);
}

// Opened by a thread that no signal finds.
TEST_F(Shards, AStopSignalEndsTheWaitForAWriterOfAPipe) {
  const StopSignalWatch watch;
  const std::string pipe = dir_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  auto piece = std::async(std::launch::async, [&] {
    return TextReader({.paths = {pipe}, .lines = std::nullopt, .document_separator = ""}).next();
  });
  EXPECT_EQ(piece.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  std::raise(SIGTERM);
  EXPECT_EQ(piece.wait_for(std::chrono::seconds(5)), std::future_status::ready);
  const FileDescriptor writer(::open(pipe.c_str(), O_RDWR | O_NONBLOCK));  // if it still waits
  EXPECT_FALSE(piece.get());
  watch_stop_signals();  // forgets it
}

TEST_F(Shards, ProgressCountsBytesAndDocuments) {
  const std::string text = random_text(200, 10);
  const std::string line = "{\"text\": \"a\"}\n";
  TextSpec spec = spec_of({dir_.write("a.txt", text), dir_.write("b.jsonl", line + line)});
  spec.validation_fraction = 0.5;
  const ShardSink sink = write(spec, 100, /*has_parts=*/true);
  EXPECT_EQ(sink.last_progress().bytes, std::ssize(text + line + line));
  EXPECT_EQ(sink.last_progress().bytes_in_all, std::ssize(text + line + line));
  EXPECT_EQ(sink.last_progress().documents, 4);
}

}  // namespace
}  // namespace lathe::test
