// A process that this one has started and that does not outlive it.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace lathe {

inline constexpr const char* kOurProgram = "/proc/self/exe";

struct ChildSpec {
  std::filesystem::path program = kOurProgram;
  std::vector<std::string> arguments;  // behind the program's name
  // Of its environment what is not as in ours; nullopt: it has no such variable.
  std::map<std::string, std::optional<std::string>> environment;
  std::filesystem::path log;  // what it says goes behind what is there
};

class ChildProcess {
 public:
  // The process is in a group of its own, so that a terminal's Ctrl-C reaches it only through us,
  // and gets a TERM when our thread ends: then it saves and ends too. Throws Error: storage for the
  // log, internal when the system starts no process.
  explicit ChildProcess(const ChildSpec& spec);
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ~ChildProcess();  // one that runs gets a TERM and is waited for

  pid_t pid() const { return pid_; }
  void send(int signal) const;

  struct Exit {
    int code;        // 128 + N where signal N has ended it
    bool is_killed;  // by a signal, so it could not save
  };
  // Of a process that has ended, once; nullopt: it runs. Does not wait.
  std::optional<Exit> ended();

 private:
  pid_t pid_ = -1;  // -1: none that runs
};

}  // namespace lathe
