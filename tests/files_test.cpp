#include "lathe/files.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/stat.h>

#include <csignal>
#include <fstream>
#include <set>
#include <thread>
#include <vector>

#include "support/error_of.h"
#include "support/file_size_limit.h"
#include "support/temp_dir.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::TempDir;

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

TEST(WriteFileAtomically, ReplacesTheContentAndLeavesNothingElse) {
  const TempDir folder;
  const std::string path = folder.write("result.json", "a longer text from before");
  const std::string text("new\0text", 8);
  write_file_atomically(path, text);
  EXPECT_EQ(test::read_file(path), text);
  EXPECT_EQ(read_file(path, ExitCode::data), text);
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"result.json"});
}

TEST(WriteFileAtomically, TakesANameWithoutAFolder) {
  const TempDir folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  write_file_atomically("here.txt", "x");
  fs::current_path(before);
  EXPECT_EQ(test::read_file(folder / "here.txt"), "x");
}

TEST(WriteFileAtomically, KeepsTheOldContentWhenTheDiskIsFull) {
  const TempDir folder;
  const std::string path = folder.write("result.json", "before");
  const std::string error = [&] {
    const test::FileSizeLimit limit(100);
    return error_of([&] { write_file_atomically(path, std::string(101, 'x')); });
  }();
  EXPECT_EQ(error,
            "exit 6: " + (folder / ".result.json.partial") + ": cannot write: File too large");
  EXPECT_EQ(test::read_file(path), "before");
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"result.json"});
}

TEST(WriteFileAtomically, NamesAFolderThatCannotBeWritten) {
  const TempDir folder;
  const std::string file = folder.write("file", "");
  EXPECT_EQ(
      error_of([&] { write_file_atomically(folder / "none/x", "x"); }),
      "exit 6: " + (folder / "none/.x.partial") + ": cannot create: No such file or directory");
  EXPECT_EQ(error_of([&] { write_file_atomically(file + "/x", "x"); }),
            "exit 6: " + file + "/.x.partial: cannot create: Not a directory");
  fs::create_directories(folder / "taken/x");
  EXPECT_EQ(error_of([&] { write_file_atomically(folder / "taken", "x"); }),
            "exit 6: " + (folder / "taken") + ": cannot replace: Is a directory");
  EXPECT_EQ(names_in(folder.path()), (std::set<std::string>{"file", "taken"}));
}

TEST(OutputFile, ReportsAFullDevice) {
  OutputFile full("/dev/full");
  EXPECT_EQ(error_of([&] { full.write("x"); }),
            "exit 6: /dev/full: cannot write: No space left on device");
}

TEST(OutputFile, AppendsOrReplaces) {
  const TempDir folder;
  const std::string path = folder.write("log", "one\n");
  OutputFile appended(path, OutputFile::Mode::append);
  appended.write("two\n");
  appended.sync();
  appended.close();
  EXPECT_EQ(test::read_file(path), "one\ntwo\n");
  OutputFile(path).write("3");
  EXPECT_EQ(test::read_file(path), "3");
}

// A pipe takes 64 KiB at a time, and a signal ends the wait for more: write() comes back short, or
// with EINTR when it had written nothing.
TEST(OutputFile, WritesAllThroughSignalsAndShortWrites) {
  const TempDir folder;
  const std::string path = folder / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  struct sigaction action {
  }, before{};
  action.sa_handler = [](int) {};
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);  // without SA_RESTART

  std::string sent;
  for (int i = 0; sent.size() < 500'000; ++i) sent += std::to_string(i) + " ";
  std::string received;
  const pthread_t writer = ::pthread_self();
  std::thread reader([&] {
    std::ifstream pipe(path, std::ios::binary);
    std::vector<char> piece(3000);
    while (pipe.read(piece.data(), 3000) || pipe.gcount() > 0) {
      received.append(piece.data(), static_cast<std::size_t>(pipe.gcount()));
      if (received.size() < sent.size()) ::pthread_kill(writer, SIGUSR1);
    }
  });
  const std::string error = error_of([&] { OutputFile(path).write(sent); });
  reader.join();
  ::sigaction(SIGUSR1, &before, nullptr);
  EXPECT_EQ(error, "");
  EXPECT_TRUE(received == sent) << received.size() << " bytes of " << sent.size();
}

TEST(InputFile, ReadsAnyPart) {
  const TempDir folder;
  const InputFile file(folder.write("x", "0123456789"), ExitCode::data);
  EXPECT_EQ(file.size(), 10u);
  std::string part(4, ' ');
  file.read(5, std::as_writable_bytes(std::span(part)));
  EXPECT_EQ(part, "5678");
}

TEST(InputFile, RefusesWhatIsNoFile) {
  const TempDir folder;
  const auto open = [&](const std::string& path) {
    return error_of([&] { InputFile(path, ExitCode::checkpoint); });
  };
  EXPECT_EQ(open(folder / "none"),
            "exit 4: " + (folder / "none") + ": cannot open: No such file or directory");
  EXPECT_EQ(open(folder.path()), "exit 4: " + folder.path().string() + ": is a folder, not a file");
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(open(folder / "pipe"),
            "exit 4: " + (folder / "pipe") + ": is a device or pipe, not a file");
  EXPECT_EQ(open("/dev/zero"), "exit 4: /dev/zero: is a device or pipe, not a file");
}

TEST(InputFile, NoticesThatAFileHasShrunk) {
  const TempDir folder;
  const std::string path = folder.write("x", "0123456789");
  const InputFile file(path, ExitCode::data);
  fs::resize_file(path, 7);
  std::string part(4, ' ');
  EXPECT_EQ(error_of([&] { file.read(5, std::as_writable_bytes(std::span(part))); }),
            "exit 3: " + path + ": ends at byte 7, where 2 more should be");
}

TEST(Publish, PutsBackWhatItCannotReplace) {
  const TempDir folder;
  const std::string path = folder.write("model.bin", "before");
  EXPECT_EQ(error_of([&] { publish(folder / "none", path, folder / "removed"); }),
            "exit 6: " + path + ": cannot rename to: No such file or directory");
  EXPECT_EQ(test::read_file(path), "before");
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"model.bin"});
}

TEST(SyncFolder, NamesAFolderThatIsNotThere) {
  const TempDir folder;
  sync_folder(folder.path());
  EXPECT_EQ(error_of([&] { sync_folder(folder / "none"); }),
            "exit 6: " + (folder / "none") + ": cannot open folder: No such file or directory");
}

// The values that `xxhsum -H3` prints.
TEST(Checksum, IsXxh3OfTheWholeHoweverItIsCut) {
  EXPECT_EQ(Checksum().value(), 0x2d06800538d394c2u);
  std::string text;
  for (int i = 0; text.size() < 5000; ++i) text += std::to_string(i);
  const auto bytes = std::as_bytes(std::span(text));
  Checksum whole;
  whole.update(bytes);
  Checksum parts;
  for (std::size_t at = 0, n = 1; at < bytes.size(); at += n, n = n * 3 + 1) {
    n = std::min(n, bytes.size() - at);
    parts.update(bytes.subspan(at, n));
  }
  EXPECT_EQ(parts.value(), whole.value());
  Checksum abc;
  abc.update(std::as_bytes(std::span("abc", 3)));
  EXPECT_EQ(abc.value(), 0x78af5f94892f3950u);
}

TEST(DigestFile, ReadsFilesBeyondOnePiece) {
  const TempDir folder;
  const std::string text((std::size_t{1} << 20) + 17, 'x');
  const InputFile file(folder.write("x", text), ExitCode::data);
  Checksum checksum;
  checksum.update(std::as_bytes(std::span(text)));
  EXPECT_EQ(digest_file(file), (FileDigest{.bytes = text.size(), .xxh3 = checksum.value()}));
}

}  // namespace
}  // namespace lathe
