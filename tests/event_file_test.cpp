// Event files byte for byte: what TensorBoard's own writer (tensorboard.summary.writer, 2.21) makes
// of the same events. What TensorBoard reads of a run is looked at in tensorboard_test.py.
#include "run/tensorboard.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "support/error_of.h"
#include "support/temp_dir.h"

namespace lathe::test {
namespace {

std::string hex(const std::string& bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    text += {kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return text;
}

constexpr double kTime = 1.5;
constexpr std::int64_t kStep = 300;  // two bytes as a varint

TEST(EventFile, VersionIsTensorBoards) {
  EXPECT_EQ(hex(framed_record(version_event(kTime))),
            "1800000000000000a37f4b22"
            "09000000000000f83f1a0d627261696e2e4576656e743a32"
            "2a28646c");
}

TEST(EventFile, RestartIsTensorBoards) {
  EXPECT_EQ(hex(framed_record(restart_event(kTime, kStep))),
            "100000000000000095fbfe18"
            "09000000000000f83f10ac023a020801"
            "713b788a");
}

TEST(EventFile, ValuesAreTensorBoards) {
  const std::vector<NamedValue> values = {{"val/loss", 0.1}, {"n", -HUGE_VAL}};
  EXPECT_EQ(hex(framed_record(values_event(kTime, kStep, values))),
            "290000000000000037ff5f00"
            "09000000000000f83f10ac022a1b0a0f0a0876616c2f6c6f737315cdcccc3d0a080a016e15000080ff"
            "d57acb07");
}

TEST(EventFile, AnEmptyRecordHasItsChecksumsToo) {
  EXPECT_EQ(hex(framed_record("")),
            "0000000000000000"
            "29039807"
            "d8ea82a2");
}

TEST(EventFile, TheNextOneStandsBehindThoseThereAre) {
  const TempDir dir;
  const std::filesystem::path folder = dir.path() / "new/tensorboard";
  for (const bool is_first : {true, false, false}) {
    TensorBoardWriter writer(folder);
    EXPECT_EQ(writer.is_first(), is_first);
  }
  std::filesystem::remove(folder / "events.out.tfevents.000002");
  dir.write("new/tensorboard/events.out.tfevents.000041", "");
  dir.write("new/tensorboard/notes", "");
  const std::vector<NamedValue> none;
  TensorBoardWriter(folder).add(1, none);
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename());
  }
  std::ranges::sort(names);
  EXPECT_EQ(names, (std::vector<std::string>{
                       "events.out.tfevents.000001", "events.out.tfevents.000003",
                       "events.out.tfevents.000041", "events.out.tfevents.000042", "notes"}));
  EXPECT_EQ(read_file(folder / "events.out.tfevents.000042").size(), 40u);  // the version alone
}

TEST(EventFile, AFolderThatCannotBeMadeIsNamed) {
  const TempDir dir;
  const std::string file = dir.write("file", "");
  EXPECT_EQ(error_of([&] { TensorBoardWriter(file + "/tensorboard"); }),
            "exit 6: " + file + "/tensorboard: cannot be written: Not a directory");
}

}  // namespace
}  // namespace lathe::test
