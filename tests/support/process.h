// Runs a program and keeps what it said.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace lathe::test {

struct ProcessSpec {
  std::vector<std::string> arguments;                   // the program's path first
  std::filesystem::path folder;                         // to run in
  std::map<std::string, std::string> environment = {};  // added to ours, which loses all LATHE_*
  std::string out_path = "";    // stdout goes there; "": into ProcessResult::out
  bool reader_is_gone = false;  // stdout is a pipe that nobody reads
};

struct ProcessResult {
  int exit_code;  // 128 + N when signal N ended it
  std::string out, err;
  double cpu_seconds;  // of all its threads
};

ProcessResult run_process(const ProcessSpec& spec);

// The lathe that was built with this test, from LATHE_BINARY.
std::string lathe_binary();

// "train --lr 1" as {lathe_binary(), "train", "--lr", "1"}: words between blanks.
std::vector<std::string> lathe_arguments(const std::string& words);

}  // namespace lathe::test
