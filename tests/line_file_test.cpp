// A file of lines on a disk that is full for a while: it never holds half a line, and has all of
// them in the end.
#include "lathe/line_file.h"

#include <gtest/gtest.h>

#include <string>

#include "support/file_size_limit.h"
#include "support/temp_dir.h"

namespace lathe {
namespace {

TEST(LineFile, KeepsWhatTheDiskRefuses) {
  const test::TempDir folder;
  const std::string path = folder.write("log", "begun\n");
  LineFile file(path);
  {
    const test::FileSizeLimit limit(20);
    file.add("one\n");
    file.add("two two two\n");  // would end at byte 22
    EXPECT_EQ(test::read_file(path), "begun\none\n");
    EXPECT_FALSE(file.is_complete());
    EXPECT_EQ(file.problem(), path + ": cannot write: File too large");
    file.add("three\n");
    EXPECT_EQ(test::read_file(path), "begun\none\n");
  }
  file.add("four\n");
  EXPECT_EQ(test::read_file(path), "begun\none\ntwo two two\nthree\nfour\n");
  EXPECT_TRUE(file.is_complete());
}

TEST(LineFile, OfSeveralLinesTheWholeOnesStay) {
  const test::TempDir folder;
  LineFile file(folder / "log");
  {
    const test::FileSizeLimit none(0);
    file.add("one\n");
    file.add("two\n");
    file.add("three\n");
  }
  {
    const test::FileSizeLimit limit(11);  // in "three"
    file.flush();
    EXPECT_EQ(test::read_file(folder / "log"), "one\ntwo\n");
  }
  file.flush();
  EXPECT_EQ(test::read_file(folder / "log"), "one\ntwo\nthree\n");
}

TEST(LineFile, CutsWhatWaitsToo) {
  const test::TempDir folder;
  LineFile file(folder / "log");
  const auto is_short = [](std::string_view line) { return line.size() < 4; };
  file.add("one\n");
  {
    const test::FileSizeLimit limit(4);
    file.add("two\n");
    file.add("three\n");
    file.cut(is_short);
  }
  file.add("four\n");
  EXPECT_EQ(test::read_file(folder / "log"), "one\ntwo\nfour\n");
  file.cut(is_short);
  file.add("six\n");
  EXPECT_EQ(test::read_file(folder / "log"), "one\ntwo\nsix\n");
}

TEST(LineFile, MemoryForLinesHasAnEnd) {
  const test::TempDir folder;
  LineFile file(folder / "log");
  std::string line(1 << 20, 'x');
  line.push_back('\n');
  {
    const test::FileSizeLimit none(0);
    for (int i = 0; i < 20; ++i) file.add(line);
  }
  file.flush();
  EXPECT_EQ(file.lost_lines(), 5);
  EXPECT_FALSE(file.is_complete());
  EXPECT_EQ(test::read_file(folder / "log").size(), 15 * line.size());
}

}  // namespace
}  // namespace lathe
