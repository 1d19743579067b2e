#include "child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string_view>
#include <system_error>
#include <utility>

#include "lathe/error.h"
#include "lathe/files.h"

namespace lathe {
namespace {

constexpr int kDidNotStart = 127;  // as of a shell

std::vector<std::string> environment_of(const ChildSpec& spec) {
  std::vector<std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::string name(text.substr(0, text.find('=')));
    if (!spec.environment.contains(name)) variables.emplace_back(text);
  }
  for (const auto& [name, value] : spec.environment) {
    if (value) variables.push_back(fmt::format("{}={}", name, *value));
  }
  return variables;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

FileDescriptor open_log(const std::filesystem::path& log) {
  FileDescriptor file(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (file.number() < 0) {
    throw Error(ExitCode::storage, fmt::format("{}: cannot create: {}", log.string(),
                                               std::generic_category().message(errno)));
  }
  return file;
}

// Those of the sweep are not for the run; what is ignored stays so (nohup).
void forget_handlers() {
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action = {};
    if (sigaction(signal, nullptr, &action) != 0 || action.sa_handler == SIG_IGN) continue;
    action = {};
    action.sa_handler = SIG_DFL;
    sigaction(signal, &action, nullptr);
  }
}

// What the new process does before it is another program: between fork and exec only calls that are
// safe in a signal handler.
struct Start {
  pid_t parent;
  int log, input;
  const char* program;
  char* const* arguments;
  char* const* environment;

  [[noreturn]] void operator()() const {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(kDidNotStart);  // it has gone before it could be watched
    forget_handlers();
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    dup2(input, STDIN_FILENO);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execve(program, arguments, environment);
    _exit(kDidNotStart);
  }
};

pid_t start(const ChildSpec& spec) {
  std::vector<std::string> arguments = {"lathe"}, environment = environment_of(spec);
  arguments.insert(arguments.end(), spec.arguments.begin(), spec.arguments.end());
  const std::vector<char*> argument_list = pointers(arguments),
                           environment_list = pointers(environment);
  const FileDescriptor log = open_log(spec.log);
  const FileDescriptor input(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Start child{.parent = getpid(),
                    .log = log.number(),
                    .input = input.number(),
                    .program = spec.program.c_str(),
                    .arguments = argument_list.data(),
                    .environment = environment_list.data()};
  // A signal that comes until the new process has handlers of its own ends it, and is not lost in
  // ours.
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  const pid_t pid = fork();
  if (pid == 0) child();
  sigprocmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) {
    throw Error(ExitCode::internal,
                fmt::format("cannot start a process: {}", std::generic_category().message(errno)));
  }
  return pid;
}

}  // namespace

ChildProcess::ChildProcess(const ChildSpec& spec) : pid_(start(spec)) {}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  return *this;
}

ChildProcess::~ChildProcess() {
  if (pid_ < 0) return;
  send(SIGTERM);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void ChildProcess::send(int signal) const {
  if (pid_ > 0) kill(pid_, signal);
}

std::optional<ChildProcess::Exit> ChildProcess::ended() {
  int status = 0;
  if (pid_ < 0 || waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  pid_ = -1;
  if (WIFSIGNALED(status)) return Exit{.code = 128 + WTERMSIG(status), .is_killed = true};
  return Exit{.code = WEXITSTATUS(status), .is_killed = false};
}

}  // namespace lathe
