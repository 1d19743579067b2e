// The program from outside: whatever is wrong with its input, it ends soon, with the documented
// exit code and one line that says what is wrong, and leaves every file and folder as it was.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <ostream>
#include <thread>

#include "lathe/files.h"
#include "lathe/folder_lock.h"
#include "support/json.h"
#include "support/process.h"
#include "support/shards.h"
#include "support/temp_dir.h"

namespace lathe::test {
namespace {

namespace fs = std::filesystem;

struct Case {
  const char* arguments;
  int exit_code;
  std::vector<const char*> says;  // all of it stands in the line
};

void PrintTo(const Case& wrong, std::ostream* stream) {
  *stream << "lathe " << wrong.arguments;
}

// A folder with right and wrong files to name in arguments, made once.
class Folder {
 public:
  Folder() {
    std::string book;
    while (book.size() < 4000) book += "It was a dark and stormy night; the rain fell.\n";
    dir_.write("book.txt", book);
    dir_.write("short.txt", book.substr(0, 300));  // a last tenth of 30 bytes
    dir_.write("empty.txt", "");
    dir_.write("picture.jpg", book);
    const std::string shard = shard_bytes(counting_tokens(0, 2000));
    dir_.write("good.bin", shard);
    dir_.write("cut.bin", shard.substr(0, shard.size() - 100));
    dir_.write("long.bin", shard + "more");
    dir_.write("header.bin", shard.substr(0, 100));
    dir_.write("beyond.bin", shard_bytes(counting_tokens(50'000, 1000)));
    dir_.write("llama.bin", header_bytes({.magic = 20240801, .version = 7, .tokens = 0}));
    dir_.write("version.bin", header_bytes({.version = 9}));
    dir_.write("random.bin", book);
    dir_.write("task.bin", header_bytes({.magic = 20240522, .version = 1, .tokens = 1}));
    dir_.write("task.jsonl", "{\"ctx\":\"It was\",\"endings\":[\"a\",\"b\"],\"label\":2}\n");
    dir_.write("odd.bin", book.substr(0, 1001));
    dir_.write("wrong.jsonl", "{\"text\": \"right\"}\n{\"text\": wrong}\n");
    dir_.write("typo.toml", "micro_batch = 4\n");
    dir_.write("type.toml", "lr = true\n");
    dir_.write("broken.toml", "lr = = 1\n");
    dir_.write("full/notes.txt", "not a run's");
    dir_.write("foreign/model.safetensors", "hello");
    make_runs();
  }

  const fs::path& path() const { return dir_.path(); }

  // Every entry with its size and time of change.
  std::map<std::string, std::string> contents() const {
    std::map<std::string, std::string> result;
    for (const auto& entry : fs::recursive_directory_iterator(dir_.path())) {
      const auto size = entry.is_regular_file() ? entry.file_size() : 0;
      const auto time = entry.last_write_time().time_since_epoch().count();
      result[entry.path().string()] = std::to_string(size) + " " + std::to_string(time);
    }
    return result;
  }

 private:
  void make_runs() {
    const ProcessResult made =
        run_process({.arguments = lathe_arguments(
                         "train --train book.txt --layers 1 --heads 1 --channels 8 "
                         "--context 16 --micro-batch 1 --steps 1 --out run --quiet --threads 1"),
                     .folder = path()});
    EXPECT_EQ(made.exit_code, 0) << made.err;
    if (made.exit_code != 0) return;
    const ProcessResult of_shards = run_process(
        {.arguments = lathe_arguments(
             "train --train good.bin --vocab 2000 --layers 1 --heads 1 --channels 8 "
             "--context 16 --micro-batch 1 --steps 1 --out numbers --quiet --threads 1"),
         .folder = path()});
    EXPECT_EQ(of_shards.exit_code, 0) << of_shards.err;
    copy_run("damaged");
    flip_byte(path() / "damaged/checkpoints/step-00000001/model.safetensors");
    copy_run("emptied");
    fs::remove_all(path() / "emptied/checkpoints");
  }

  void copy_run(const char* name) const {
    fs::copy(path() / "run", path() / name, fs::copy_options::recursive);
  }

  static void flip_byte(const fs::path& file) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(-5, std::ios::end);
    const char byte = static_cast<char>(stream.get() ^ 1);
    stream.seekp(-5, std::ios::end);
    stream.put(byte);
  }

  TempDir dir_;
};

class BadInput : public testing::TestWithParam<Case> {
 protected:
  static void SetUpTestSuite() { folder_ = std::make_unique<Folder>(); }
  static void TearDownTestSuite() { folder_.reset(); }
  static inline std::unique_ptr<Folder> folder_;
};

TEST_P(BadInput, EndsWithOneLineAndItsExitCode) {
  const auto before = folder_->contents();
  const ProcessResult result =
      run_process({.arguments = lathe_arguments(GetParam().arguments), .folder = folder_->path()});
  EXPECT_EQ(result.exit_code, GetParam().exit_code) << result.err;
  EXPECT_EQ(result.err.substr(0, 7), "lathe: ");
  EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
  EXPECT_TRUE(result.err.ends_with('\n'));
  for (const char* text : GetParam().says) {
    EXPECT_NE(result.err.find(text), std::string::npos) << text << "\n  in " << result.err;
  }
  EXPECT_EQ(result.out, "");
  EXPECT_LT(result.cpu_seconds, 1);
  EXPECT_EQ(folder_->contents(), before);
}

// clang-format off: a table, one line for a case
const Case kCases[] = {
    // Commands and options
    {"", 2, {"needs a command", "train, sweep, eval"}},
    {"trian", 2, {"trian", "did you mean train?"}},
    {"42", 2, {"42: no such command"}},
    {"help trian", 2, {"trian", "did you mean train?"}},
    {"train --micro-bach 4", 2, {"--micro-bach", "did you mean --micro-batch?"}},
    {"train --zebra", 2, {"--zebra: no such option", "lathe train --help"}},
    {"train book.txt", 2, {"book.txt", "options begin with --"}},
    {"train -lr 3", 2, {"-lr: no such option"}},
    {"train --lr", 2, {"--lr: needs a value"}},
    {"sample --lr 1 --checkpoint run", 2, {"--lr", "lathe sample does not take it", "train"}},
    {"eval --val book.txt", 2, {"--checkpoint: lathe eval needs it"}},
    {"inspect", 2, {"needs a PATH"}},
    {"plot", 2, {"needs a RUN"}},
    // Values
    {"train --lr nan", 2, {"--lr nan: must be a number above 0"}},
    {"train --lr inf", 2, {"--lr inf"}},
    {"train --lr -1", 2, {"--lr -1"}},
    {"train --lr 1e999", 2, {"--lr 1e999"}},
    {"train --lr=", 2, {"--lr ''"}},
    {"train --eps 1e-45", 2, {"--eps 1e-45: must be a number 1.2e-38 or more"}},
    {"train --beta2 1", 2, {"--beta2 1", "below 1"}},
    {"train --steps 010", 2, {"--steps 010: must be a whole number from 1"}},
    {"train --steps 0x10", 2, {"--steps 0x10"}},
    {"train --steps 1.5", 2, {"--steps 1.5"}},
    {"train --steps -5", 2, {"--steps -5"}},
    {"train --steps 99999999999999999999", 2, {"--steps 99999999999999999999"}},
    {"train --steps ten", 2, {"--steps ten"}},
    {"train --micro-batch 0", 2, {"--micro-batch 0"}},
    {"train --seed -1", 2, {"--seed -1"}},
    {"train --threads 0", 2, {"--threads 0", "from 1"}},
    {"train --tokenizer gpt2 --out new", 2, {"--tokenizer gpt2", "--train"}},
    {"train --quiet=perhaps", 2, {"--quiet perhaps", "true or false"}},
    {"train --model d13", 2, {"--model d13", "d12, d24, d36, d48"}},
    {"train --precision fp16", 2, {"--precision fp16", "fp32, bf16"}},
    {"train --device tpu", 2, {"--device tpu", "auto, cpu"}},
    {"train --lr-schedule step", 2, {"--lr-schedule step", "cosine, linear, constant, wsd"}},
    {"train --steps 5 --tokens 1M", 2, {"--steps 5", "--tokens 1M", "give one"}},
    // Files of options
    {"train --config none.toml", 2, {"none.toml: no such file"}},
    {"train --config typo.toml", 2, {"typo.toml: micro_batch", "did you mean micro-batch?"}},
    {"train --config type.toml", 2, {"type.toml: lr", "must be a number"}},
    {"train --config broken.toml", 2, {"broken.toml:1"}},
    // Options against each other
    {"train --batch-tokens 1000", 2, {"--batch-tokens 1000", "512 and 1024"}},
    {"train --micro-batch 4 --batch-tokens 1000", 2, {"--batch-tokens 1000", "512 and 1024"}},
    {"train --seq-len 129", 2, {"--seq-len 129", "128"}},
    {"train --heads 3", 2, {"--heads 3", "--channels 128"}},
    {"train --layers 5000", 2, {"--layers 5000", "1000"}},
    {"plan --heads 3", 2, {"--heads 3", "--channels 128"}},
    {"bench --seq-len 129", 2, {"--seq-len 129", "128"}},
    {"train --val book.txt", 2, {"--val book.txt", "--train"}},
    {"train --name s{sed}", 2, {"--name s{sed}", "did you mean {seed}?"}},
    {"train --name a/b", 2, {"--name a/b", "--out"}},
    {"train --out run --name a", 2, {"--out run", "--name"}},
    {"plan --name {precision}", 2, {"--name {precision}", "--precision has no value"}},
    {"train --resume --overwrite", 2, {"--resume and --overwrite"}},
    {"train --trace none/t.json", 6, {"--trace none/t.json", "none/.t.json"}},
    {"train --trace /proc/t.json", 6, {"--trace /proc/t.json"}},
    {"train --trace full", 2, {"--trace full: is no file"}},
    {"train --trace book.txt", 2, {"--trace book.txt: is there and holds no trace"}},
    {"train --device cpu --profile-steps 1:2", 2, {"--profile-steps 1:2", "has no --trace"}},
    {"train --trace t.json --profile-steps 3:2", 2, {"--profile-steps 3:2: must be A:B"}},
    // Ranks, on paper
    {"plan --gpus 0", 2, {"--gpus 0: must be a whole number from 1 to 256, or all"}},
    {"train --gpus every", 2, {"--gpus every: must be a whole number from 1 to 256, or all"}},
    {"train --gpus 2 --device cpu", 2, {"--gpus 2: --device is cpu", "mpirun or srun"}},
    {"plan --gpus 257", 2, {"--gpus 257"}},
    {"plan --nodes 1.5", 2, {"--nodes 1.5"}},
    {"plan --link-gbytes 0", 2, {"--link-gbytes 0: must be a number above 0"}},
    {"plan --node-link-microseconds -1", 2, {"--node-link-microseconds -1"}},
    {"plan --gpus 3 --micro-batch 4 --batch-tokens 4096",
     2,
     {"--batch-tokens 4096", "3072 and 4608"}},
    {"train --nodes 2", 2, {"--nodes", "belongs to plan"}},
    // Data
    {"train --train none.txt", 3, {"none.txt"}},
    {"train --train *.nothing", 3, {"*.nothing"}},
    {"train --train picture.jpg", 3, {"picture.jpg", "--data-format"}},
    {"train --train empty.txt", 3, {"empty.txt"}},
    {"train --train random.bin", 3, {"random.bin", "20240520"}},
    {"train --train llama.bin", 3, {"llama.bin", "20240801"}},
    {"train --train version.bin", 3, {"version.bin", "version 9"}},
    {"train --train cut.bin", 3, {"cut.bin", "cut short"}},
    {"train --train long.bin", 3, {"long.bin", "2000 tokens"}},
    {"train --train header.bin", 3, {"header.bin"}},
    {"train --train good.bin --vocab 1000", 3, {"good.bin", "token 1000", "vocabulary of 1000"}},
    {"train --train beyond.bin", 3, {"beyond.bin", "token 50257", "vocabulary of 50257"}},
    {"train --train odd.bin --data-format nanogpt", 3, {"odd.bin", "1001 bytes"}},
    {"train --train good.bin book.txt", 3, {"good.bin", "book.txt"}},
    {"train --train short.txt --seq-len 64", 3, {"short.txt", "--seq-len 64"}},
    {"train --train book.txt --val short.txt --context 512 --seq-len 512",
     3,
     {"--val short.txt", "--seq-len 512"}},
    // Runs and checkpoints
    {"train --train book.txt --out run", 2, {"--out run", "--resume", "--overwrite"}},
    {"train --train book.txt --out full", 2, {"--out full"}},
    {"train --train book.txt --out full --overwrite", 2, {"--out full"}},
    {"train --train book.txt --out book.txt", 6, {"book.txt"}},
    {"train --train book.txt --out book.txt/run", 6, {"book.txt/run"}},
    {"train --train book.txt --out /proc/run", 6, {"/proc/run"}},
    {"train --resume --out none", 4, {"--resume", "none"}},
    {"train --resume=none", 4, {"--resume none"}},
    {"train --resume --out emptied", 4, {"emptied"}},
    {"train --resume --out run --lr 1", 2, {"--lr 1", "has 0.0003", "--resume"}},
    {"train --resume --out run --train short.txt", 2, {"--train short.txt", "book.txt"}},
    {"train --resume --out damaged --steps 2", 4, {"damaged"}},
    {"train --train book.txt --init-from foreign", 4, {"foreign"}},
    {"train --train book.txt --init-from foreign/model.safetensors",
     4,
     {"foreign/model.safetensors"}},
    {"train --train book.txt --init-from run --layers 3", 2, {"--layers 3", "--init-from run"}},
    {"train --train book.txt --init-from run --model gpt2", 2, {"--model gpt2", "--init-from run"}},
    {"convert run", 2, {"--out"}},
    {"convert run foreign --out made", 2, {"2 models"}},
    {"convert none --out made", 4, {"none"}},
    {"convert foreign --out made", 4, {"foreign"}},
    {"convert good.bin --out made", 4, {"good.bin"}},
    {"convert run --out full", 2, {"--out full", "--overwrite"}},
    {"convert run --out full --overwrite", 2, {"--out full"}},
    {"convert run --out book.txt --to llmc", 2, {"--out book.txt", "--overwrite"}},
    {"convert run --out book.txt/made", 6, {"book.txt"}},
    {"convert run --out made --to pt", 2, {"--to pt", "hf, llmc, lathe"}},
    {"eval --checkpoint none --val book.txt", 4, {"none"}},
    {"eval --checkpoint foreign --val book.txt", 4, {"foreign"}},
    {"eval --checkpoint damaged --val book.txt", 4, {"damaged"}},
    {"eval --checkpoint run --val none.txt", 3, {"none.txt"}},
    {"eval --checkpoint run --val book.txt --seq-len 17", 2, {"--seq-len 17", "16"}},
    {"eval --checkpoint run --multiple-choice none.bin", 3, {"none.bin: cannot open"}},
    {"eval --checkpoint run --multiple-choice book.txt", 3, {"book.txt: byte 0", "20240522"}},
    {"eval --checkpoint run --multiple-choice task.bin", 3, {"task.bin: byte 12"}},
    {"eval --checkpoint run --multiple-choice task.jsonl", 3, {"task.jsonl: line 1: \"label\""}},
    {"train --train book.txt --multiple-choice task.jsonl", 3, {"task.jsonl: line 1: \"label\""}},
    {"sample --checkpoint damaged", 4, {"damaged"}},
    {"sample --checkpoint book.txt", 4, {"book.txt"}},
    {"sample --checkpoint run --top-p 0", 2, {"--top-p 0: must be a number above 0 and at most 1"}},
    {"sample --checkpoint run --top-p 1.5", 2, {"--top-p 1.5"}},
    {"sample --checkpoint run --samples 0", 2, {"--samples 0"}},
    {"sample --checkpoint run --prompt It --prompt-file book.txt",
     2,
     {"--prompt-file book.txt: excludes --prompt"}},
    {"sample --checkpoint run --prompt-file none.txt", 3, {"--prompt-file none.txt: No such file"}},
    {"sample --checkpoint run --prompt-file empty.txt", 3, {"--prompt-file empty.txt: is empty"}},
    {"sample --checkpoint run --prompt-file full", 3, {"--prompt-file full: Is a directory"}},
    {"sample --checkpoint numbers --prompt It", 2, {"--prompt: numbers", "how text becomes"}},
    {"inspect none", 3, {"none"}},
    // Text into shards
    {"tokenize --tokenizer bytes --out tokens", 2, {"tokenize: needs a FILE"}},
    {"tokenize --out tokens book.txt", 2, {"--tokenizer: lathe tokenize needs it"}},
    {"tokenize --tokenizer bytes book.txt", 2, {"--out: lathe tokenize needs it"}},
    {"tokenize --tokenizer none --out tokens book.txt", 2, {"--tokenizer none"}},
    {"tokenize --tokenizer bytes --out tokens none.txt", 3, {"none.txt"}},
    {"tokenize --tokenizer bytes --out tokens full", 3, {"full: is a folder"}},
    {"tokenize --tokenizer bytes --out tokens wrong.jsonl", 3, {"wrong.jsonl: line 2"}},
    {"tokenize --tokenizer bytes --out full book.txt good.bin --data-format llmc",
     2,
     {"--data-format llmc"}},
    {"tokenize --tokenizer bytes --out . book.txt", 2, {"--out .: holds ", ".bin"}},
    {"tokenize --tokenizer bytes --out book.txt book.txt", 2, {"--out book.txt: is a file"}},
    {"tokenize --tokenizer bytes --out /proc/shards book.txt", 6, {"/proc/shards"}},
    {"tokenize --tokenizer bytes --out tokens --val-fraction 1 book.txt", 2, {"--val-fraction 1"}},
    {"tokenize --tokenizer bytes --out tokens --shard-tokens 3B book.txt",
     2,
     {"--shard-tokens 3B", "2147483647"}},
    {"plot none", 3, {"none"}},
    {"plot run --svg /proc/loss.svg", 6, {"loss.svg"}},
    {"plot run --html /proc/loss.html", 6, {"loss.html"}},
};
// clang-format on

std::string case_name(const testing::TestParamInfo<Case>& info) {
  std::string name = std::to_string(info.index);
  for (const char* c = info.param.arguments; *c != '\0'; ++c) {
    name += std::isalnum(static_cast<unsigned char>(*c)) != 0 ? *c : '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(Cli, BadInput, testing::ValuesIn(kCases), case_name);

ProcessResult lathe(const std::string& words, const TempDir& dir,
                    const std::map<std::string, std::string>& environment = {}) {
  return run_process(
      {.arguments = lathe_arguments(words), .folder = dir.path(), .environment = environment});
}

TEST(Cli, HelpAndVersionGoToStdout) {
  const TempDir dir;
  for (const char* words : {"--version", "--help", "help", "train --help", "plot --help-all"}) {
    const ProcessResult result = lathe(words, dir);
    EXPECT_EQ(result.exit_code, 0) << words;
    EXPECT_EQ(result.err, "") << words;
    EXPECT_NE(result.out.find("lathe"), std::string::npos) << words;
  }
}

TEST(Cli, EnvironmentIsRead) {
  const TempDir dir;
  const ProcessResult result = lathe("plan", dir, {{"LATHE_LR", "fast"}});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.err, "lathe: LATHE_LR fast: must be a number above 0\n");
}

TEST(Cli, MessagesStayOnOneLine) {
  const TempDir dir;
  const auto said = [&](const std::string& option, const std::string& value) {
    return run_process(
               {.arguments = {lathe_binary(), "train", option, value}, .folder = dir.path()})
        .err;
  };
  EXPECT_EQ(said("--lr", "1\n2\x1b[31m"),
            "lathe: --lr 1\\n2\\u001b[31m: must be a number above 0\n");
  EXPECT_TRUE(said("--train", "/a\nb\x1b[31m").starts_with("lathe: --train '/a?b?[31m': "));
}

TEST(Cli, AReaderThatLeavesIsNoError) {
  const TempDir dir;
  for (const char* words : {"plan", "--help"}) {
    const ProcessResult result = run_process(
        {.arguments = lathe_arguments(words), .folder = dir.path(), .reader_is_gone = true});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.err, "");
  }
}

TEST(Cli, AFullDiskBehindStdoutIsAnError) {
  const TempDir dir;
  const ProcessResult result = run_process(
      {.arguments = lathe_arguments("plan"), .folder = dir.path(), .out_path = "/dev/full"});
  EXPECT_EQ(result.exit_code, 6);
  EXPECT_NE(result.err.find(": No space left on device\n"), std::string::npos) << result.err;
}

TEST(Cli, PlanWritesNothing) {
  const TempDir dir;
  const ProcessResult result = lathe("plan", dir);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(fs::is_empty(dir.path()));
}

// Whoever comes second changes nothing, whatever it would do with the run.
TEST(Cli, ARunHasOneWriter) {
  const TempDir dir;
  const std::string train =
      "train --layers 1 --heads 1 --channels 8 --context 16 --steps 1 --out run";
  const ProcessResult made = lathe(train + " --quiet", dir);
  ASSERT_EQ(made.exit_code, 0) << made.err;
  EXPECT_EQ(made.out.substr(0, 16), "finished 1 steps");
  const std::string result = read_file(dir / "run/result.json", ExitCode::storage);
  {
    const FolderLock other(dir / "run");
    for (const char* what : {" --overwrite", " --resume --steps 2", " --resume=auto --steps 2"}) {
      const ProcessResult second = lathe(train + what, dir);
      EXPECT_EQ(second.exit_code, 2) << what;
      EXPECT_EQ(second.err,
                "lathe: --out run: another process is writing there; wait for it or stop it, or "
                "give another folder\n");
    }
    EXPECT_EQ(read_file(dir / "run/result.json", ExitCode::storage), result);
  }
  const ProcessResult after = lathe("train --resume --steps 2 --out run", dir);
  EXPECT_EQ(after.exit_code, 0) << after.err;
}

// Whoever asks shares the lock for an instant; here the instant is long.
TEST(Cli, ToAskForALockTakesItFromNobody) {
  const TempDir dir;
  EXPECT_FALSE(FolderLock::is_held(dir / "none"));
  EXPECT_FALSE(FolderLock::is_held(dir.path()));
  const int asking = ::open(dir.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ASSERT_EQ(::flock(asking, LOCK_SH), 0);
  EXPECT_FALSE(FolderLock::is_held(dir.path()));  // two that ask are not in each other's way
  std::thread answered([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ::close(asking);
  });
  {
    const FolderLock lock(dir.path());
    EXPECT_TRUE(FolderLock::is_held(dir.path()));
  }
  answered.join();
  EXPECT_FALSE(FolderLock::is_held(dir.path()));
}

class CliSample : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = std::make_unique<TempDir>();
    dir_->write("book.txt", std::string(3000, 'b'));
    const ProcessResult made = lathe(
        "train --train book.txt --layers 1 --heads 1 --channels 8 --context 16 --micro-batch 1 "
        "--steps 2 --out run --quiet --threads 1",
        *dir_);
    ASSERT_EQ(made.exit_code, 0) << made.err;
  }
  static void TearDownTestSuite() { dir_.reset(); }

  // What `lathe sample --checkpoint run` says with more arguments, in a shell.
  static ProcessResult sample(const std::string& arguments, const std::string& before = "") {
    return run_process(
        {.arguments = {"/bin/sh", "-c",
                       before + lathe_binary() + " sample --checkpoint run " + arguments},
         .folder = dir_->path()});
  }
  static std::string text(const std::string& arguments, const std::string& before = "") {
    const ProcessResult result = sample(arguments, before);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    return result.out;
  }

  static inline std::unique_ptr<TempDir> dir_;
};

TEST_F(CliSample, TheSamePromptFromEverywhere) {
  const std::string expected = text("--max-tokens 40 --prompt 'bbb c'");
  EXPECT_EQ(expected.substr(0, 5), "bbb c");
  dir_->write("prompt.txt", "bbb c");
  EXPECT_EQ(text("--max-tokens 40 --prompt-file prompt.txt"), expected);
  EXPECT_EQ(text("--max-tokens 40 --prompt-file -", "printf 'bbb c' | "), expected);
  EXPECT_EQ(text("--max-tokens 40 --prompt 'bbb c' --no-kv-cache"), expected);
  // stdin is left alone when nothing asks for it, whatever stands in it.
  EXPECT_EQ(text("--max-tokens 40", "printf 'bbb c' | "), text("--max-tokens 40 </dev/null"));
}

TEST_F(CliSample, SeveralSamplesBeginWithTheOne) {
  const std::string one = text("--max-tokens 20 --prompt b --temperature 5");
  const std::string all = text("--max-tokens 20 --prompt b --temperature 5 --samples 6");
  EXPECT_EQ(all.substr(0, one.size()), one);
  std::size_t count = 1;
  for (std::size_t at = 0; (at = all.find("\n---\nb", at)) != std::string::npos; ++at) ++count;
  EXPECT_EQ(count, 6u);
}

TEST_F(CliSample, JsonHasEveryToken) {
  const auto json =
      parse_json(text("--max-tokens 20 --prompt bb --samples 5 --temperature 5 --seed 3 --json"));
  EXPECT_EQ(json["prompt"], "bb");
  EXPECT_EQ(json["prompt_tokens"], 2);
  EXPECT_EQ(json["seed"], 3);
  EXPECT_EQ(json["tokens"], 100);
  EXPECT_GT(json["tokens_per_second"], 0);
  ASSERT_EQ(json["samples"].size(), 5u);
  for (const auto& sample : json["samples"]) {
    EXPECT_EQ(sample["tokens"].size(), 20u);
    EXPECT_EQ(sample["ended_by"], "max_tokens");
    for (const auto& token : sample["tokens"]) EXPECT_LT(token, 256);
  }
}

TEST_F(CliSample, AReaderThatLeavesEndsItAndAFullDiskIsAnError) {
  // A thousand times what fits into a pipe.
  const ProcessResult left =
      run_process({.arguments = lathe_arguments("sample --checkpoint run --max-tokens 100000000"),
                   .folder = dir_->path(),
                   .reader_is_gone = true});
  EXPECT_EQ(left.exit_code, 0) << left.err;
  const ProcessResult full = run_process({.arguments = lathe_arguments("sample --checkpoint run"),
                                          .folder = dir_->path(),
                                          .out_path = "/dev/full"});
  EXPECT_EQ(full.exit_code, 6) << full.err;
}

}  // namespace
}  // namespace lathe::test
