#include "support/process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <sstream>
#include <stdexcept>

#include "support/temp_dir.h"

namespace lathe::test {
namespace {

std::vector<std::string> environment_of(const ProcessSpec& spec) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (!text.starts_with("LATHE_")) result.push_back(text);
  }
  for (const auto& [name, value] : spec.environment) result.push_back(name + "=" + value);
  return result;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& string : strings) result.push_back(string.data());
  result.push_back(nullptr);
  return result;
}

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
}

// The end of a pipe to write to, whose other end is closed.
int pipe_without_reader() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
  close(ends[0]);
  return ends[1];
}

}  // namespace

ProcessResult run_process(const ProcessSpec& spec) {
  const TempDir said;
  const std::string out = spec.out_path.empty() ? said / "out" : spec.out_path;
  const std::string err = said / "err";
  constexpr int kWrite = O_WRONLY | O_CREAT | O_TRUNC;

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addchdir_np(&actions, spec.folder.c_str());
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, err.c_str(), kWrite, 0600);
  int pipe_end = -1;
  if (spec.reader_is_gone) {
    pipe_end = pipe_without_reader();
    posix_spawn_file_actions_adddup2(&actions, pipe_end, STDOUT_FILENO);
  } else {
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out.c_str(), kWrite, 0600);
  }

  std::vector<std::string> arguments = spec.arguments;
  std::vector<std::string> environment = environment_of(spec);
  pid_t child = 0;
  const int error = posix_spawn(&child, arguments.front().c_str(), &actions, nullptr,
                                pointers(arguments).data(), pointers(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  if (pipe_end >= 0) close(pipe_end);
  if (error != 0) throw std::runtime_error(arguments.front() + " does not start");

  int status = 0;
  rusage usage{};
  wait4(child, &status, 0, &usage);
  const bool reads_out = spec.out_path.empty() && !spec.reader_is_gone;
  return {.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          .out = reads_out ? read_file(out) : "",
          .err = read_file(err),
          .cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime)};
}

std::string lathe_binary() {
  const char* path = std::getenv("LATHE_BINARY");
  if (path == nullptr) throw std::runtime_error("LATHE_BINARY is not set; ctest sets it");
  return path;
}

std::vector<std::string> lathe_arguments(const std::string& words) {
  std::vector<std::string> arguments = {lathe_binary()};
  std::istringstream stream(words);
  for (std::string word; stream >> word;) arguments.push_back(word);
  return arguments;
}

}  // namespace lathe::test
