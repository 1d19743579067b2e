// Folders of shards from outside, as `lathe tokenize` makes them and `lathe train` reads them or
// makes them for itself: whole or not there, never two mixed, and what they are known to whoever
// reads them.
#include "lathe/dataset.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <future>
#include <string>
#include <vector>

#include "data/progress_bar.h"
#include "data/token_cache.h"
#include "lathe/bpe.h"
#include "lathe/shard_writer.h"
#include "support/error_of.h"
#include "support/file_size_limit.h"
#include "support/json.h"
#include "support/process.h"
#include "support/shards.h"
#include "support/temp_dir.h"
#include "support/word_tokenizer.h"

namespace lathe::test {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

using Names = std::vector<std::string>;

// A tokenizer that is nowhere but in the files that it has been saved to: bytes, "th" and "the".
std::shared_ptr<const Tokenizer> small_bpe() {
  BpeVocabulary vocabulary;
  for (int byte = 0; byte < 256; ++byte) vocabulary.tokens.emplace_back(1, static_cast<char>(byte));
  vocabulary.merges = {{.left = 't', .right = 'h', .merged = 256},
                       {.left = 256, .right = 'e', .merged = 257}};
  vocabulary.tokens.insert(vocabulary.tokens.end(), {"th", "the", ""});
  vocabulary.end_of_text = 258;
  return bpe_tokenizer(std::move(vocabulary), "small");
}

class DatasetFolder : public testing::Test {
 protected:
  void write(const std::string& shard,
             DatasetWriter::WhenLocked when_locked = DatasetWriter::WhenLocked::refuse) {
    DatasetWriter writer(folder_, when_locked);
    dir_.write((writer.staging() / shard).lexically_relative(dir_.path()).string(), shard);
    writer.commit(dataset_, *byte_tokenizer());
  }

  TempDir dir_;
  fs::path folder_ = dir_.path() / "tokens";
  Dataset dataset_{.tokenizer = "bytes",
                   .vocab = 256,
                   .end_of_text = std::nullopt,
                   .bytes = 1'000'000'000'000,
                   .documents = 3,
                   .train = {.tokens = 7, .shards = 1},
                   .val = {},
                   .sources = {"a.txt", "b\"\n.jsonl"}};
};

TEST_F(DatasetFolder, HasAllOfItsFilesOrNone) {
  {
    const DatasetWriter writer(folder_, DatasetWriter::WhenLocked::refuse);
    dir_.write((writer.staging() / "train_000001.bin").lexically_relative(dir_.path()).string(),
               "");
    EXPECT_EQ(names_in(folder_).size(), 1u);
    EXPECT_TRUE(names_in(folder_).front().starts_with(".partial-"));
  }
  EXPECT_FALSE(fs::exists(folder_));
  write("train_000001.bin");
  EXPECT_EQ(names_in(folder_), (Names{"dataset.json", "train_000001.bin"}));
  EXPECT_EQ(read_dataset(folder_), dataset_);
}

TEST_F(DatasetFolder, NeverMixesTwoDatasets) {
  dir_.write("tokens/notes.txt", "the user's");
  dir_.write("tokens/train_1.bin.old", "the user's");
  write("train_000002.bin");
  write("val_000000.bin");
  EXPECT_EQ(names_in(folder_),
            (Names{"dataset.json", "notes.txt", "train_1.bin.old", "val_000000.bin"}));
}

TEST_F(DatasetFolder, ForgetsWhatAKilledProcessLeft) {
  dir_.write("tokens/.partial-ABCDEF/train_000001.bin", "");
  write("train_000001.bin");
  EXPECT_EQ(names_in(folder_), (Names{"dataset.json", "train_000001.bin"}));
}

TEST_F(DatasetFolder, IsWrittenByOneAtATime) {
  auto first = std::make_unique<DatasetWriter>(folder_, DatasetWriter::WhenLocked::refuse);
  EXPECT_EQ(error_of([&] { write("train_000001.bin"); }),
            "exit 2: --out " + folder_.string() +
                ": another process is writing shards there; wait for it, or give another folder");
  auto second = std::async(std::launch::async,
                           [&] { write("train_000001.bin", DatasetWriter::WhenLocked::wait); });
  EXPECT_EQ(second.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  first.reset();  // which removes the folder that the second one waits for
  second.get();
  EXPECT_EQ(names_in(folder_), (Names{"dataset.json", "train_000001.bin"}));
}

TEST_F(DatasetFolder, IsRefusedWhereItWouldBeMistaken) {
  const auto error = [&](bool overwrite) {
    return error_of([&] { check_dataset_folder(folder_, overwrite); });
  };
  const std::string out = "exit 2: --out " + folder_.string() + ": ";
  EXPECT_EQ(error(false), "");
  dir_.write("tokens/book.txt", "");
  EXPECT_EQ(error(false), "");
  dir_.write("tokens/tokenizer/vocab.json", "");
  EXPECT_EQ(error(true), out + "holds a tokenizer of another origin; give another folder");
  dir_.write("tokens/val_000000.bin", header_bytes({}));
  EXPECT_EQ(error(true), "");
  EXPECT_EQ(error(false),
            out + "holds shards; give --overwrite to replace them, or another folder");
  dir_.write("tokens/fineweb_train_000001.bin", "");
  EXPECT_EQ(error(true), out +
                             "holds fineweb_train_000001.bin, which would be taken for one of its "
                             "shards; give another folder");
  folder_ = dir_.path() / "tokens/book.txt";
  EXPECT_EQ(error(true), "exit 2: --out " + folder_.string() + ": is a file, must be a folder");
}

TEST_F(DatasetFolder, ShardsAreKnownByTheirNames) {
  for (const char* name : {"train_000001.bin", "val_999999.bin"}) EXPECT_TRUE(is_shard_name(name));
  for (const char* name :
       {"train_00001.bin", "train_0000001.bin", "test_000001.bin", "train_00000a.bin",
        "train_000001.bin2", "train_000001_bin", "val_.bin"}) {
    EXPECT_FALSE(is_shard_name(name)) << name;
  }
}

// Whatever is wrong with dataset.json, it is said and nothing is assumed.
TEST_F(DatasetFolder, ItsDescriptionIsChecked) {
  const auto right = parse_json(dataset_text(dataset_));
  const auto error = [&](const char* key, const nlohmann::json& value) {
    nlohmann::json wrong = right;
    wrong[key] = value;
    dir_.write("tokens/dataset.json", wrong.dump());
    return error_of([&] { read_dataset(folder_); });
  };
  const std::string start = "exit 3: " + (folder_ / "dataset.json").string() + ": ";
  EXPECT_EQ(error("more", 1), "");
  EXPECT_EQ(error("format", "x"), start + R"(format "x", must be "lathe dataset")");
  EXPECT_EQ(error("version", 2), start + "format version 2, this Lathe reads version 1");
  EXPECT_EQ(error("vocab", 0), start + R"("vocab" must not be 0)");
  EXPECT_EQ(error("vocab", 65537), start + R"("vocab" must be a whole number up to 65536)");
  EXPECT_EQ(error("vocab", -1), start + R"("vocab" must be a whole number up to 65536)");
  EXPECT_EQ(error("end_of_text", 65536),
            start + R"("end_of_text" must be a whole number up to 65535)");
  EXPECT_EQ(error("tokenizer", "../x"), start + R"("tokenizer" is "../x")");
  EXPECT_EQ(error("tokenizer", 1), start + R"("tokenizer" must be a string)");
  EXPECT_EQ(error("train", 1), start + R"(has no "tokens")");
  EXPECT_EQ(error("sources", {1}), start + R"("sources" must hold strings)");
  EXPECT_EQ(error("sources", 1), start + R"("sources" must be an array)");
  dir_.write("tokens/dataset.json", "{");
  EXPECT_EQ(error_of([&] { read_dataset(folder_); }), start + "not valid JSON at byte 2");
}

TEST_F(DatasetFolder, KeepsATokenizerThatIsNowhereElse) {
  const auto tokenizer = small_bpe();
  DatasetWriter writer(folder_, DatasetWriter::WhenLocked::refuse);
  dataset_.tokenizer = saved_tokenizer_name(*tokenizer);
  writer.commit(dataset_, *tokenizer);
  const auto opened = open_saved_tokenizer(read_dataset(folder_)->tokenizer, folder_);
  EXPECT_TRUE(same_tokens(*opened, *tokenizer));
  EXPECT_FALSE(same_tokens(*opened, *byte_tokenizer()));
  EXPECT_EQ(encode(*opened, "the thin"), encode(*tokenizer, "the thin"));
}

// The same tokens, of which other ones come together: "he" before "th".
TEST_F(DatasetFolder, OfTheCacheIsOfOneTokenizer) {
  BpeVocabulary vocabulary = *bpe_vocabulary(*small_bpe());
  vocabulary.tokens.insert(vocabulary.tokens.end() - 1, "he");
  vocabulary.end_of_text = 259;
  BpeVocabulary other = vocabulary;
  other.merges = {{.left = 'h', .right = 'e', .merged = 258},
                  {.left = 't', .right = 258, .merged = 257}};
  const CacheSpec spec{.text = {.paths = {dir_.write("a.txt", "the thin theme")},
                                .lines = std::nullopt,
                                .text_field = "text",
                                .validation_fraction = 0,
                                .threads = 1},
                       .folder = dir_.path() / "cache",
                       .label = "--train a.txt",
                       .expected_key = "",
                       .is_quiet = true};
  const auto tokenizer = bpe_tokenizer(vocabulary, "one");
  const std::string key = find_or_make_tokens(spec, *tokenizer).key;
  EXPECT_EQ(find_tokens(spec, *tokenizer)->key, key);
  EXPECT_EQ(find_tokens(spec, *bpe_tokenizer(vocabulary, "renamed"))->key, key);
  EXPECT_EQ(find_tokens(spec, *bpe_tokenizer(other, "one")), std::nullopt);
  CacheSpec separated = spec;
  separated.text.document_separator = " ";
  EXPECT_EQ(find_tokens(separated, *tokenizer), std::nullopt);
}

TEST(ProgressLine, FitsIntoTheTerminal) {
  EXPECT_EQ(progress_line(40, 0.5, "12.0 MB"), "[###########-----------]  50 % | 12.0 MB");
  EXPECT_EQ(progress_line(40, 0.0, "12.0 MB"), "[----------------------]   0 % | 12.0 MB");
  EXPECT_EQ(progress_line(40, 1.5, "12.0 MB"), "[######################] 100 % | 12.0 MB");
  EXPECT_EQ(progress_line(20, 0.5, "12.0 MB"), " 50 % | 12.0 MB");
  EXPECT_EQ(progress_line(10, 0.5, "12.0 MB"), " 50 % | 12");
  EXPECT_EQ(progress_line(40, std::nullopt, "12.0 MB"), "12.0 MB");
}

class TokenizeCommand : public testing::Test {
 protected:
  ProcessResult lathe(const std::string& words) {
    return run_process({.arguments = lathe_arguments(words), .folder = dir_.path()});
  }
  ProcessResult shell(const std::string& script) {
    return run_process({.arguments = {"/bin/sh", "-c", script}, .folder = dir_.path()});
  }
  nlohmann::json read_json(const fs::path& name) {
    return parse_json(read_file(dir_.path() / name));
  }

  TempDir dir_;
};

std::string shard_of(const std::string& text) {
  std::vector<std::uint16_t> tokens;
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return shard_bytes(tokens);
}

TEST_F(TokenizeCommand, WritesShardsOfFilesAndStdin) {
  dir_.write("a.txt", "one ");
  dir_.write("b.jsonl", "{\"text\": \"two \"}\n");
  const std::string lathe = lathe_binary();
  const ProcessResult result =
      shell("printf three | " + lathe +
            " tokenize --tokenizer bytes --out d --val-fraction 0 '?.*' - --threads 2");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_TRUE(result.out.starts_with("3 documents, 26 bytes, 13 tokens (bytes) in ")) << result.out;
  EXPECT_EQ(std::ranges::count(result.out, '\n'), 1);
  EXPECT_EQ(result.out.find_first_of("\r\x1b"), std::string::npos);
  EXPECT_EQ(read_file(dir_ / "d/train_000001.bin"), shard_of("one two three"));
  EXPECT_EQ(names_in(dir_ / "d"), (Names{"dataset.json", "train_000001.bin"}));
}

TEST_F(TokenizeCommand, SaysInJsonWhatItDid) {
  dir_.write("a.txt", "one,two,,three");
  const ProcessResult result = lathe(
      "tokenize --tokenizer bytes --out d --document-separator , --val-fraction 0.5 --json a.txt");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  auto json = parse_json(result.out);
  EXPECT_EQ(json["out"], "d");
  EXPECT_GT(json["seconds"], 0);
  EXPECT_GT(json["bytes_per_second"], 0);
  for (const char* key : {"out", "seconds", "bytes_per_second"}) json.erase(key);
  EXPECT_EQ(json, read_json("d/dataset.json"));
  EXPECT_EQ(json["documents"], 3);
  EXPECT_EQ(read_file(dir_ / "d/train_000001.bin"), shard_of("one"));
  EXPECT_EQ(read_file(dir_ / "d/val_000000.bin"), shard_of("twothree"));
}

TEST_F(TokenizeCommand, LeavesEverythingAsItWasWhenItFails) {
  dir_.write("a.txt", "text");
  dir_.write("wrong.jsonl", "{\"text\": \"right\"}\n{}\n");
  EXPECT_EQ(lathe("tokenize --tokenizer bytes --out d --shard-tokens 1 wrong.jsonl").exit_code, 3);
  EXPECT_FALSE(fs::exists(dir_ / "d"));
  EXPECT_EQ(lathe("tokenize --tokenizer bytes --out d --val-fraction 0 a.txt").exit_code, 0);
  const std::string before = read_file(dir_ / "d/dataset.json");
  EXPECT_EQ(lathe("tokenize --tokenizer bytes --out d a.txt").exit_code, 2);
  EXPECT_EQ(lathe("tokenize --tokenizer bytes --out d --overwrite wrong.jsonl").exit_code, 3);
  EXPECT_EQ(read_file(dir_ / "d/dataset.json"), before);
  EXPECT_EQ(names_in(dir_ / "d"), (Names{"dataset.json", "train_000001.bin"}));
  EXPECT_EQ(
      lathe("tokenize --tokenizer bytes --out d --overwrite --shard-tokens 1 a.txt").exit_code, 0);
  EXPECT_EQ(names_in(dir_ / "d"), (Names{"dataset.json", "train_000001.bin", "train_000002.bin",
                                         "train_000003.bin", "val_000000.bin"}));
}

TEST_F(TokenizeCommand, ATokenizerOfAWrongTextIsNotBegun) {
  dir_.write("a.jsonl", "{}\n");
  EXPECT_EQ(lathe("train-tokenizer --vocab 300 --out t a.jsonl").exit_code, 3);
  EXPECT_FALSE(fs::exists(dir_ / "t"));
}

// A pipe that never ends: only a signal ends the work on it.
TEST_F(TokenizeCommand, ASignalLeavesNothing) {
  dir_.write("a.txt", std::string(5000, 'a'));
  ASSERT_EQ(::mkfifo((dir_ / "pipe").c_str(), 0600), 0);
  const FileDescriptor writer(::open((dir_ / "pipe").c_str(), O_RDWR));
  const ProcessResult result =
      shell(lathe_binary() +
            " tokenize --tokenizer bytes --out d --shard-tokens 1000 a.txt pipe --threads 2 &\n"
            "until ls d/.partial-*/train_000001.bin >ls.txt 2>&1; do sleep 0.02; done\n"
            "kill -INT $!; wait $!");
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_EQ(result.err, "lathe: stopped by signal 2; d is as it was\n");
  EXPECT_FALSE(fs::exists(dir_ / "d"));
}

// Everything that tokenising reads and writes is explained, and believed only as far as it is so.
TEST_F(TokenizeCommand, InspectExplainsItsFiles) {
  dir_.write("a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"\"}\n{\"text\": \"\u00e9\"}\n");
  const auto facts = [&](const std::string& path) {
    return parse_json(lathe("inspect --json " + path).out);
  };
  const auto documents = facts("a.jsonl");
  EXPECT_EQ(documents["documents"], 2);
  EXPECT_EQ(documents["text_bytes"], 5);
  ASSERT_EQ(lathe("tokenize --tokenizer bytes --out d --shard-tokens 2 a.jsonl").exit_code, 0);
  auto dataset = facts("d");
  EXPECT_EQ(dataset["kind"], "dataset");
  EXPECT_EQ(dataset["train"], (nlohmann::json{{"tokens", 3}, {"shards", 2}}));
  EXPECT_EQ(dataset["val"], (nlohmann::json{{"tokens", 2}, {"shards", 1}}));
  dataset["path"] = "d/dataset.json";
  EXPECT_EQ(facts("d/dataset.json"), dataset);
  fs::copy_file(dir_ / "d/train_000001.bin", dir_ / "d/train_000002.bin",
                fs::copy_options::overwrite_existing);
  const ProcessResult wrong = lathe("inspect d");
  EXPECT_EQ(wrong.exit_code, 3);
  EXPECT_EQ(wrong.err, "lathe: d/dataset.json: says 3 tokens of train, its shards have 4\n");
}

// Small runs on text that is tokenised first.
class TrainOnText : public TokenizeCommand {
 protected:
  TrainOnText() {
    std::string text;
    for (int i = 0; i < 60; ++i) text += "the thin theme of story " + std::to_string(i) + "\n\n";
    dir_.write("book.txt", text);
    save_tokenizer(*small_bpe(), dir_.path());
  }

  ProcessResult train(const std::string& words) {
    return lathe(
        "train --layers 1 --heads 1 --channels 8 --context 16 --threads 1 --micro-batch 2 "
        "--steps 2 " +
        words);
  }

  // The shard that a document of text is, encoded here.
  static std::string shard(const std::string& text) {
    std::vector<std::uint16_t> tokens = {258};
    for (std::size_t at = 0; at < text.size();) {
      const bool is_the = text.compare(at, 3, "the") == 0, is_th = text.compare(at, 2, "th") == 0;
      tokens.push_back(is_the  ? std::uint16_t{257}
                       : is_th ? std::uint16_t{256}
                               : static_cast<std::uint16_t>(text[at]));
      at += is_the ? 3 : is_th ? 2 : 1;
    }
    return shard_bytes(tokens);
  }

  fs::path only_folder_in(const fs::path& folder) {
    const auto names = names_in(dir_.path() / folder);
    EXPECT_EQ(names.size(), 1u);
    return dir_.path() / folder / names.at(0);
  }
};

TEST_F(TrainOnText, TokenisesOnceBesideTheRunAndSaysSo) {
  const ProcessResult first = train("--train book.txt --tokenizer tokenizer --out runs/a");
  EXPECT_EQ(first.exit_code, 0) << first.err;
  const fs::path cache = only_folder_in("runs/token-cache");
  const std::string where = "runs/token-cache/" + cache.filename().string();
  EXPECT_NE(first.out.find("tokens (tokenizer) are in " + where + ", tokenised in"),
            std::string::npos)
      << first.out;
  EXPECT_NE(read_file(dir_ / "runs/a/log.txt").find("tokenised in"), std::string::npos);
  const auto keys = parse_json(lathe("inspect --json runs/a/tokens.json").out);
  EXPECT_EQ(keys["--train"], cache.filename().string());
  const std::string text = read_file(dir_ / "book.txt");
  const std::size_t boundary = text.size() * 9 / 10;
  EXPECT_EQ(read_file(cache / "train_000001.bin"), shard(text.substr(0, boundary)));
  EXPECT_EQ(read_file(cache / "val_000000.bin"), shard(text.substr(boundary)));

  fs::rename(dir_ / "book.txt", dir_ / "moved.txt");
  const ProcessResult second = train("--train moved.txt --tokenizer tokenizer --out runs/b");
  EXPECT_EQ(second.exit_code, 0) << second.err;
  EXPECT_NE(second.out.find("are in " + where + "\n"), std::string::npos) << second.out;
  EXPECT_EQ(second.out.find("tokenis"), std::string::npos) << second.out;
  EXPECT_EQ(read_file(dir_ / "runs/b/metrics.jsonl").substr(0, 40),
            read_file(dir_ / "runs/a/metrics.jsonl").substr(0, 40));
}

TEST_F(TrainOnText, ARunKeepsItsTokenizerWhereverItIsMoved) {
  ASSERT_EQ(train("--train book.txt --tokenizer tokenizer --out runs/a").exit_code, 0);
  fs::remove_all(dir_ / "tokenizer");
  fs::create_directories(dir_ / "elsewhere");
  fs::rename(dir_ / "runs/a", dir_ / "elsewhere/b");
  const auto state = read_json("elsewhere/b/checkpoints/step-00000002/state.json");
  EXPECT_EQ(state["tokenizer"], "../../tokenizer");
  const ProcessResult result = lathe("train --resume --out elsewhere/b --steps 3 --threads 1");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(only_folder_in("elsewhere/token-cache").filename(),
            only_folder_in("runs/token-cache").filename());
}

// A run saves its tokenizer, which must be the same when it is read again.
TEST_F(TrainOnText, GoesOnWithSpecialTokensOfAnyName) {
  auto json = read_json("tokenizer/tokenizer.json");
  json["added_tokens"].push_back({{"id", 300}, {"content", "<pad>"}, {"special", true}});
  dir_.write("pad.json", json.dump());
  ASSERT_EQ(train("--train book.txt --tokenizer pad.json --out runs/a").exit_code, 0);
  const ProcessResult result = lathe("train --resume --out runs/a --steps 3 --threads 1");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  only_folder_in("runs/token-cache");
}

TEST_F(TrainOnText, AChangedTextDoesNotGoOn) {
  ASSERT_EQ(train("--train book.txt --tokenizer tokenizer --out runs/a").exit_code, 0);
  std::string text = read_file(dir_ / "book.txt");
  text[100] ^= 1;
  dir_.write("book.txt", text);
  const ProcessResult result = lathe("train --resume --out runs/a --steps 3 --threads 1");
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.err,
            "lathe: --train book.txt: has changed since the run began, as its tokens.json shows; "
            "restore it, or start another run\n");
  only_folder_in("runs/token-cache");
}

TEST_F(TrainOnText, JsonLinesAndSeparatorsNeedNoOtherTokenizer) {
  dir_.write("docs.jsonl", "{\"text\": \"" + std::string(400, 'a') + "\"}\n");
  const ProcessResult lines = train("--train docs.jsonl --val book.txt --out runs/a");
  EXPECT_EQ(lines.exit_code, 0) << lines.err;
  EXPECT_EQ(read_file(only_folder_in("runs/token-cache") / "train_000001.bin"),
            shard_of(std::string(400, 'a')));
  const ProcessResult parts =
      train("--train book.txt --document-separator story --token-cache cache --out runs/b");
  EXPECT_EQ(parts.exit_code, 0) << parts.err;
  EXPECT_EQ(parse_json(read_file(only_folder_in("cache") / "dataset.json"))["documents"], 61);
}

TEST_F(TrainOnText, ShardsSayWhichTokenizerMadeThem) {
  ASSERT_EQ(lathe("tokenize --tokenizer tokenizer --out d book.txt").exit_code, 0);
  const ProcessResult result = train("--train d/train_*.bin --val d/val_*.bin --out runs/a");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto state = read_json("runs/a/checkpoints/step-00000002/state.json");
  EXPECT_EQ(state["model"]["vocab"], 259);
  EXPECT_EQ(state["tokenizer"], "../../tokenizer");
  EXPECT_TRUE(fs::exists(dir_ / "runs/a/tokenizer/merges.txt"));

  ASSERT_EQ(lathe("tokenize --tokenizer bytes --out e book.txt").exit_code, 0);
  EXPECT_EQ(train("--train d/train_*.bin --val e/val_*.bin --out runs/b").err,
            "lathe: d and e: their shards are of different tokenizers, as dataset.json says\n");
  EXPECT_EQ(train("--train e/train_*.bin --tokenizer tokenizer --out runs/b").err,
            "lathe: --tokenizer tokenizer: the shards in e are of another tokenizer, bytes\n");
}

TEST_F(TrainOnText, APlanTokenisesNothing) {
  const std::string plan =
      "plan --train book.txt --tokenizer tokenizer --json --out runs/a "
      "--layers 1 --heads 1 --channels 8 --context 16 --micro-batch 2";
  auto json = parse_json(lathe(plan).out);
  EXPECT_EQ(json["vocab"], 259);
  EXPECT_TRUE(json["steps"].is_null());
  EXPECT_FALSE(fs::exists(dir_ / "runs"));
  ASSERT_EQ(lathe("tokenize --tokenizer tokenizer --out d book.txt").exit_code, 0);
  json = parse_json(
      lathe("plan --train d/train_000001.bin --val book.txt --json --out runs/a --model tiny").out);
  EXPECT_GT(json["steps"], 0);
  EXPECT_FALSE(fs::exists(dir_ / "runs"));
  ASSERT_EQ(train("--train book.txt --tokenizer tokenizer --out runs/b").exit_code, 0);
  json = parse_json(lathe(plan).out);
  EXPECT_GT(json["steps"], 10);
}

TEST_F(TrainOnText, AWrongLineLeavesNoCache) {
  dir_.write("wrong.jsonl", "{\"text\": \"right\"}\n{\"text\": wrong}\n");
  const ProcessResult result = train("--train wrong.jsonl --out runs/a");
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.err, "lathe: wrong.jsonl: line 2: not valid JSON at byte 10\n");
  EXPECT_FALSE(fs::exists(dir_ / "runs"));
}

TEST_F(TrainOnText, TextThatIsTooShortIsRefused) {
  dir_.write("short.txt", "the story");
  EXPECT_EQ(train("--train short.txt --tokenizer tokenizer --out runs/a").exit_code, 3);
  dir_.write("empty.txt", "");
  const ProcessResult result = train("--train empty.txt --tokenizer tokenizer --out runs/a");
  EXPECT_EQ(result.err, "lathe: --train empty.txt: holds no text\n");
}

}  // namespace
}  // namespace lathe::test
