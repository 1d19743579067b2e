// Texts made from the option table: short enough to read, and in README as they are here.
#include "lathe/help.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "options/option_table.h"
#include "support/temp_dir.h"

namespace lathe {
namespace {

void expect_fits(const std::string& text) {
  std::istringstream lines(text);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) EXPECT_LT(line.size(), 100u) << line;
  EXPECT_LT(count, 48) << text;
  EXPECT_NE(text.find("Example: lathe "), std::string::npos) << text;
}

TEST(Help, FitsOnAScreenAndShowsAnExample) {
  expect_fits(main_help());
  for (const CommandSpec& command : command_table()) {
    SCOPED_TRACE(command.name);
    expect_fits(command_help(command.id));
    EXPECT_NE(main_help().find(command.name), std::string::npos);
    for (const OptionSpec& option : option_table()) {
      if (!option.taken_by(command.id)) continue;
      const std::string name = "--" + std::string(option.name);
      EXPECT_NE(command_help(command.id).find(name), std::string::npos) << name;
      EXPECT_NE(options_help(command.id).find(name), std::string::npos) << name;
    }
  }
}

TEST(Help, IsFoundWhereverItIsAskedFor) {
  const auto text = [](const std::vector<std::string>& args) { return help_text(args); };
  EXPECT_EQ(text({"--help"}), main_help());
  EXPECT_EQ(text({"help"}), main_help());
  EXPECT_EQ(text({"train", "--lr", "1", "--help"}), command_help(Command::train));
  EXPECT_EQ(text({"help", "eval"}), command_help(Command::eval));
  EXPECT_EQ(text({"plan", "--help-all"}), options_help(Command::plan));
  EXPECT_EQ(text({"help", "options", "--markdown"}), options_markdown());
  EXPECT_EQ(text({"--version"})->substr(0, 6), "lathe ");
  EXPECT_EQ(text({}), std::nullopt);
  EXPECT_EQ(text({"train", "--", "--help"}), std::nullopt);
  EXPECT_EQ(text({"trian", "--help"}), std::nullopt);
}

TEST(Help, ReadmeHasTheOptionTable) {
  const auto readme = std::filesystem::path(LATHE_GOLDEN_DIR) / "../../README.md";
  ASSERT_TRUE(std::filesystem::exists(readme));
  const std::string text = test::read_file(readme);
  const std::string begin = "<!-- options -->\n";
  const auto from = text.find(begin);
  const auto to = text.find("<!-- /options -->");
  ASSERT_NE(from, std::string::npos) << "README.md has no <!-- options -->";
  ASSERT_NE(to, std::string::npos) << "README.md has no <!-- /options -->";
  EXPECT_EQ(text.substr(from + begin.size(), to - from - begin.size()), options_markdown())
      << "put the output of `lathe help options --markdown` there";
}

}  // namespace
}  // namespace lathe
