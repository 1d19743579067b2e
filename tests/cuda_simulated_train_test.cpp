// That a run keeps its plans of matrix products: taken from a file, written beside it, and found
// again in its checkpoint.
#include <gtest/gtest.h>

#include "lathe/commands.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "support/json.h"
#include "support/temp_dir.h"

namespace lathe {
namespace {

using nlohmann::ordered_json;

class TrainOnGpu : public testing::Test {
 protected:
  int train(const std::string& out, std::vector<std::string> more) const {
    std::vector<std::string> args = {"--quiet", "--out", path(out)};
    args.insert(args.end(), more.begin(), more.end());
    return train_command(parse_options(Command::train, args, {}));
  }

  int start(const std::string& out, std::vector<std::string> more = {}) const {
    for (const char* arg : {"--layers=1", "--heads=2", "--channels=16", "--context=16", "--steps=4",
                            "--stop-at-step=2", "--val-tokens=16", "--device=cuda"}) {
      more.emplace_back(arg);
    }
    return train(out, more);
  }

  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }

  ordered_json plans(const std::string& run) const {
    return ordered_json::parse(read_file(path(run) + "/gemm_plans.json", ExitCode::internal));
  }

  test::TempDir folder_;
};

TEST_F(TrainOnGpu, TakesPlansFromAFileAndKeepsThemOnResume) {
  ASSERT_EQ(start("first"), 0);
  ordered_json chosen = plans("first");
  ASSERT_GE(chosen.at("plans").size(), 10u);
  for (auto& plan : chosen.at("plans")) {
    plan["algorithm"][0] = "000000001a7e0003";  // the stand-in's other plan, for all
  }
  write_file_atomically(path("plans.json"), chosen.dump());

  ASSERT_EQ(start("second", {"--gemm-plans", path("plans.json")}), 0);
  EXPECT_EQ(plans("second"), chosen);
  write_file_atomically(path("second") + "/gemm_plans.json", "{}");  // the checkpoint's count
  ASSERT_EQ(train("second", {"--resume"}), 0);
  EXPECT_EQ(plans("second"), chosen);
}

TEST_F(TrainOnGpu, RefusesAPlansFileThatIsNotThere) {
  try {
    start("run", {"--gemm-plans", path("absent.json")});
    FAIL() << "a run without its plans began";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_NE(std::string(error.what()).find("absent.json"), std::string::npos) << error.what();
  }
  EXPECT_FALSE(std::filesystem::exists(path("run")));
}

}  // namespace
}  // namespace lathe
