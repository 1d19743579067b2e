// Files and folders that are something else than a command takes them for: nothing is written over
// or into them, and nothing is computed from them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>

#include "support/process.h"
#include "support/shards.h"
#include "support/temp_dir.h"

namespace lathe::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSmallModel =
    " --layers 1 --heads 1 --channels 8 --context 16 --micro-batch 1 --steps 1 --quiet --threads 1";

// Made once: texts, two tokenizers of one size, a run and a dataset of each, a model of each.
class MistakenFiles : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = std::make_unique<TempDir>();
    std::string book, sums;
    while (book.size() < 4000) book += "It was a dark and stormy night; the rain fell.\n";
    for (int i = 0; sums.size() < 4000; ++i) sums += "add " + std::to_string(i) + " and one\n";
    dir_->write("book.txt", book);
    dir_->write("sums.txt", sums);
    dir_->write("empty.txt", "");
    dir_->write("empty.jsonl", "{\"text\": \"\"}\n");
    succeed("train-tokenizer --vocab 260 --out words book.txt --quiet");
    succeed("train-tokenizer --vocab 260 --out numbers sums.txt --quiet");
    succeed("tokenize --tokenizer bytes --out bytes --val-fraction 0.5 book.txt --quiet");
    succeed("tokenize --tokenizer words --out data --val-fraction 0.5 book.txt --quiet");
    succeed("tokenize --tokenizer numbers --out other --val-fraction 0.5 sums.txt --quiet");
    succeed(std::string("train --train book.txt --out run") + kSmallModel);
    succeed(std::string("train --train book.txt --tokenizer words --out wordy") + kSmallModel);
    succeed("convert wordy --to hf --out hf");
    succeed("convert wordy --to llmc --out model.bin");
    fs::copy(path("data/val_000000.bin"), path("renamed.txt"));
    fs::copy(path("model.bin"), path("model.txt"));
    fs::copy(path("hf/model.safetensors"), path("tensors.txt"));
  }
  static void TearDownTestSuite() { dir_.reset(); }

  static fs::path path(const std::string& name) { return dir_->path() / name; }

  static ProcessResult lathe(const std::string& words) {
    return run_process({.arguments = lathe_arguments(words), .folder = dir_->path()});
  }

  static ProcessResult succeed(const std::string& words) {
    ProcessResult result = lathe(words);
    EXPECT_EQ(result.exit_code, 0) << words << "\n" << result.err;
    return result;
  }

  // Every file and its bytes.
  static std::map<std::string, std::string> contents() {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(dir_->path())) {
      files[entry.path().string()] = entry.is_regular_file() ? read_file(entry.path()) : "";
    }
    return files;
  }

  // One line that says all of `says`, and every file as it was.
  static void refuse(const std::string& words, int exit_code,
                     const std::vector<std::string>& says) {
    const auto before = contents();
    const ProcessResult result = lathe(words);
    EXPECT_EQ(result.exit_code, exit_code) << words << "\n" << result.err;
    EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << words << "\n" << result.err;
    for (const std::string& text : says) {
      EXPECT_NE(result.err.find(text), std::string::npos) << text << "\n  in " << result.err;
    }
    EXPECT_EQ(result.out, "") << words;
    EXPECT_TRUE(contents() == before) << words;
  }

  static inline std::unique_ptr<TempDir> dir_;
};

TEST_F(MistakenFiles, FoldersOfOtherKindsAreNotWrittenInto) {
  const std::string checkpoint = "run/checkpoints/step-00000001";
  for (const std::string overwrite : {"", " --overwrite"}) {
    const std::string tokenize = "tokenize --tokenizer bytes book.txt" + overwrite + " --out ";
    const std::string learn = "train-tokenizer --vocab 260 book.txt" + overwrite + " --out ";
    for (const std::string& command : {tokenize, learn}) {
      refuse(command + "run", 2, {"--out run: is a run (config.toml", "a folder of its own"});
      refuse(command + checkpoint, 2, {"is a checkpoint (state.json)"});
      refuse(command + "hf", 2, {"--out hf: is a model of Hugging Face (config.json)"});
    }
    refuse(tokenize + "words", 2, {"--out words: is a tokenizer (merges.txt"});
    refuse(learn + "data", 2, {"--out data: is a dataset (dataset.json)"});
    refuse(learn + "data/tokenizer", 2, {"is the tokenizer of a dataset"});
    refuse(learn + "wordy/tokenizer/", 2, {"is the tokenizer of a run"});
  }
}

TEST_F(MistakenFiles, OverwriteRemovesNothingForeign) {
  const std::string learn = "train-tokenizer --vocab 260 book.txt --overwrite --out ";
  const std::string tokenize = "tokenize --tokenizer bytes book.txt --overwrite --out ";
  dir_->write("mine/train_000001.bin", "mine\n");
  refuse(tokenize + "mine", 2, {"--out mine: holds train_000001.bin, which is no token shard"});
  dir_->write("noted/dataset.json", "x");
  refuse(tokenize + "noted", 2, {"--out noted: holds dataset.json, which is not one"});
  dir_->write("typed/tokenizer.json", "x");
  refuse(learn + "typed", 2, {"--out typed: holds tokenizer.json, which is no file of a token"});
  dir_->write("merged/merges.txt", "x");
  refuse(learn + "merged", 2, {"--out merged: holds merges.txt, which is no file of a token"});
  succeed("tokenize --tokenizer bytes book.txt --out again");
  succeed(tokenize + "again");
  succeed("train-tokenizer --vocab 260 book.txt --out learned");
  succeed(learn + "learned");
}

// Tokens of another tokenizer have a loss, too, but it means nothing.
TEST_F(MistakenFiles, ALossIsOfTokensThatTheModelKnows) {
  const std::string eval = "eval --seq-len 16 --threads 1 --checkpoint ";
  succeed(eval + "wordy --val data/val_000000.bin");
  succeed(eval + "hf --val data/val_000000.bin");
  succeed(eval + "run --val bytes/val_000000.bin");
  refuse(eval + "wordy --val other/val_000000.bin", 3,
         {"--val other/val_000000.bin: its tokens are those of other/tokenizer, as dataset.json",
          "the model's of wordy/"});
  refuse(eval + "wordy --val bytes/val_000000.bin", 3, {"those of bytes", "the model's of wordy/"});
  refuse(eval + "run --val data/val_000000.bin", 3, {"those of data/tokenizer", "of bytes"});
}

TEST_F(MistakenFiles, ConvertReplacesOnlyModels) {
  const std::string convert = "convert wordy --overwrite --out ";
  refuse(convert + "book.txt --to llmc", 2, {"--out book.txt: is no model"});
  refuse(convert + "data/val_000000.bin", 2, {"--out data/val_000000.bin: is no model"});
  refuse(convert + "hf/model.safetensors", 2, {"is part of a model of Hugging Face"});
  refuse(convert + "run/checkpoints/step-00000001/model.safetensors", 2, {"part of a checkpoint"});
  refuse(convert + "wordy/hf", 2, {"--out wordy/hf: is in wordy, the model itself"});
  refuse("convert hf --overwrite --out hf/model.safetensors", 2,
         {"--out hf/model.safetensors: is in hf, the model itself"});
  refuse("convert hf/model.safetensors --overwrite --out ./hf/", 2,
         {"--out hf: holds hf/model.safetensors, the model itself"});
  succeed("convert wordy --out made.bin");
  succeed(convert + "made.bin");
}

TEST_F(MistakenFiles, TextIsNoFileOfAnotherKind) {
  const std::string tokenize = "tokenize --tokenizer bytes --out tokens ";
  refuse(tokenize + "data/val_000000.bin", 3, {"data/val_000000.bin: is a token shard of llm.c"});
  refuse(tokenize + "book.txt renamed.txt", 3, {"renamed.txt: is a token shard of llm.c, no text"});
  refuse(tokenize + "model.txt", 3, {"model.txt: is a model of llm.c, no text"});
  refuse(tokenize + "tensors.txt", 3, {"tensors.txt: is a safetensors file, no text"});
  refuse(tokenize + "empty.txt empty.jsonl", 3, {"tokenize empty.txt empty.jsonl: holds no text"});
  refuse(tokenize + "- -", 2, {"- is given twice"});
}

TEST_F(MistakenFiles, AModelIsNoFileOfAnotherKind) {
  const std::string sample = "sample --checkpoint ";
  refuse(sample + "book.txt", 4, {"book.txt: is a file of no known kind, no model: that is a run"});
  refuse(sample + "renamed.txt", 4, {"renamed.txt: is a token shard of llm.c, no model"});
  refuse(sample + "hf/config.json", 4, {"hf/config.json", "description of a model", "its folder"});
}

TEST_F(MistakenFiles, WhatIsSaidCanBeDone) {
  refuse("eval --checkpoint run --seq-len 16 --val shard/1.bin", 3, {"no file matches"});
  dir_->write("shards/1.bin", shard_bytes(counting_tokens(0, 2000)));
  refuse("eval --checkpoint run --seq-len 16 --val shards/1.bin", 3,
         {"token 256 at position 256 is outside the model's vocabulary of 256", "own tokenizer"});
  refuse("train-tokenizer --out big --vocab 100000000000 book.txt", 2, {"at most 2147483647"});
  refuse("tokenize --tokenizer /dev/null --out tokens book.txt", 2,
         {"neither a file nor a folder"});
}

// The folder of a dataset stands for its shards.
TEST_F(MistakenFiles, ADatasetIsTrainedOnByItsFolder) {
  succeed(std::string("train --train data --val data --out folder") + kSmallModel);
  succeed(std::string("train --train data/train_000001.bin --val data/val_000000.bin --out files") +
          kSmallModel);
  EXPECT_EQ(read_file(path("folder/checkpoints/step-00000001/model.safetensors")),
            read_file(path("files/checkpoints/step-00000001/model.safetensors")));
  succeed("tokenize --tokenizer bytes --out whole --val-fraction 0 book.txt");
  refuse(std::string("train --train whole --val whole --out none") + kSmallModel, 3,
         {"--val whole: this dataset has no val shards"});
  fs::create_directory(path("loose"));
  fs::copy(path("data/train_000001.bin"), path("loose/a.bin"));
  refuse(std::string("train --train loose --out none") + kSmallModel, 3,
         {"--train loose: is a folder; name files in it, such as 'loose/*.bin'"});
}

TEST_F(MistakenFiles, AModelGoesOnWithItsOwnTokens) {
  const std::string train = std::string("train --threads 1 --micro-batch 1 --steps 1 ");
  refuse(train + "--init-from run --train book.txt --tokenizer words --out next --quiet", 2,
         {"--init-from run: knows 256 tokens, too few for the 260 of tokenizer", "leave out"});
  refuse(train + "--init-from wordy --train book.txt --tokenizer bytes --out next --quiet", 2,
         {"--init-from wordy", "the data's of bytes; leave out --tokenizer"});
  const std::string warning = "warning: wordy/checkpoints/step-00000001 has learned the tokens of ";
  const ProcessResult other = succeed(
      train + "--init-from wordy --train sums.txt --tokenizer numbers --out other_words --quiet");
  EXPECT_NE(other.out.find(warning), std::string::npos) << other.out;
  EXPECT_NE(other.out.find("the data's are those of numbers"), std::string::npos) << other.out;
  const ProcessResult same =
      succeed(train + "--init-from wordy --train book.txt --tokenizer words --out same_words");
  EXPECT_EQ(same.out.find("has learned"), std::string::npos) << same.out;
}

TEST_F(MistakenFiles, TextThatWasTokenisedIsCalledText) {
  const ProcessResult found = succeed("eval --checkpoint wordy --seq-len 16 --val book.txt");
  EXPECT_NE(found.out.find("\ntext, "), std::string::npos) << found.out;
  EXPECT_EQ(found.out.find("llm.c"), std::string::npos) << found.out;
}

}  // namespace
}  // namespace lathe::test
