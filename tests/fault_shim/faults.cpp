#include "faults.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <mutex>

namespace fault_shim {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::int64_t number(const char* name, std::int64_t otherwise) {
  const std::string value = variable(name);
  return value.empty() ? otherwise : std::strtoll(value.c_str(), nullptr, 10);
}

// The C library's functions are ours: what the shim needs for itself goes to the kernel.
int open_trace() {
  const std::string path = variable("FAULT_SHIM_TRACE");
  if (path.empty()) return -1;
  return static_cast<int>(
      syscall(SYS_openat, AT_FDCWD, path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
}

// Calls go one after another: the number of one is its place in the order of all.
class Faults {
 public:
  Faults()
      : folder_(variable("FAULT_SHIM_FOLDER")),
        kind_(variable("FAULT_SHIM_KIND")),
        operations_("," + variable("FAULT_SHIM_OPERATIONS") + ","),
        path_part_(variable("FAULT_SHIM_PATH")),
        first_(number("FAULT_SHIM_AT", 0)),
        calls_(number("FAULT_SHIM_CALLS", 1)),
        error_(static_cast<int>(number("FAULT_SHIM_ERRNO", EIO))),
        bytes_(static_cast<std::size_t>(number("FAULT_SHIM_BYTES", 0))),
        signal_(static_cast<int>(number("FAULT_SHIM_SIGNAL", SIGTERM))),
        trace_(open_trace()) {
    note({.operation = "session", .path = folder_}, 0);
  }

  long perform(Call call, const RealCall& real);

 private:
  bool is_below(const std::string& path) const {
    return !folder_.empty() && path.starts_with(folder_) &&
           (path.size() == folder_.size() || path[folder_.size()] == '/');
  }
  bool is_numbered(const Call& call) const {
    return (operations_ == ",," ||
            operations_.find("," + std::string(call.operation) + ",") != operations_.npos) &&
           (call.path + "\n" + call.other_path).find(path_part_) != std::string::npos;
  }
  void kill(const Call& call) {
    note(call, 0);
    syscall(SYS_kill, getpid(), SIGKILL);
  }
  long fail(const Call& call, const RealCall& real) const;
  void note(const Call& call, long result);

  std::mutex mutex_;
  const std::string folder_, kind_, operations_, path_part_;
  const std::int64_t first_, calls_;
  const int error_;
  const std::size_t bytes_;
  const int signal_;
  const int trace_;
  std::int64_t count_ = 0;
};

// A descriptor is gone after close(2), whatever that said.
long Faults::fail(const Call& call, const RealCall& real) const {
  if (call.operation == "close") real(0);
  errno = error_;
  return -1;
}

long Faults::perform(Call call, const RealCall& real) {
  if (!is_below(call.path) && !is_below(call.other_path)) return real(call.data.size());
  const std::lock_guard lock(mutex_);
  const std::int64_t at = is_numbered(call) ? ++count_ : 0;
  const bool is_hit = at >= first_ && at < first_ + calls_ && first_ > 0;
  if (is_hit && kind_ == "kill_before") kill({.operation = "kill", .path = call.path});
  if (is_hit && kind_ == "signal") syscall(SYS_kill, getpid(), signal_);
  if (is_hit && kind_ == "short" && call.data.size() > bytes_ && bytes_ > 0) {
    call.data = call.data.substr(0, bytes_);
  }
  const long result = is_hit && kind_ == "error" ? fail(call, real) : real(call.data.size());
  const int error = errno;
  if (call.operation == "write" && call.offset < 0 && result >= 0) {
    call.offset = lseek(call.descriptor, 0, SEEK_CUR) - result;
  }
  if (call.operation == "open") call.descriptor = static_cast<int>(result);
  note(call, result);
  if (is_hit && kind_ == "kill_after") kill({.operation = "kill", .path = call.path});
  errno = error;
  return result;
}

void Faults::note(const Call& call, long result) {
  if (trace_ < 0) return;
  const std::string_view written =
      call.data.substr(0, static_cast<std::size_t>(result < 0 ? 0 : result));
  std::string record;
  for (const std::int64_t value :
       {count_, static_cast<std::int64_t>(result), std::int64_t{result < 0 ? errno : 0},
        std::int64_t{call.descriptor}, call.flags, call.offset,
        static_cast<std::int64_t>(written.size())}) {
    record += std::to_string(value) + "\t";
  }
  record.append(call.operation).append("\t").append(call.path).append("\t");
  record.append(call.other_path).append("\n").append(written);
  for (std::string_view rest = record; !rest.empty();) {
    const long taken = syscall(SYS_write, trace_, rest.data(), rest.size());
    if (taken <= 0) syscall(SYS_exit_group, 99);
    rest.remove_prefix(static_cast<std::size_t>(taken));
  }
}

// Never destroyed: the program's last calls come after its static objects are gone.
Faults& faults() {
  static Faults& instance = *new Faults;
  return instance;
}

std::string link_target(const std::string& link) {
  std::array<char, 4096> target{};
  const ssize_t n = readlink(link.c_str(), target.data(), target.size());
  return {target.data(), static_cast<std::size_t>(n < 0 ? 0 : n)};
}

// Without "//", "/." and a "/" at the end, so that a path is below a folder if it begins so.
std::string tidy(const std::string& path) {
  std::string result;
  for (std::size_t at = 0; at < path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string part = path.substr(at, end - at);
    if (!part.empty() && part != ".") result += "/" + part;
    at = end + 1;
  }
  return result;
}

}  // namespace

long perform(Call call, const RealCall& real) {
  return faults().perform(std::move(call), real);
}

std::string absolute(int folder, const char* path) {
  if (path[0] == '/') return tidy(path);
  return tidy((folder == AT_FDCWD ? link_target("/proc/self/cwd") : path_of(folder)) + "/" + path);
}

std::string path_of(int descriptor) {
  return link_target("/proc/self/fd/" + std::to_string(descriptor));
}

}  // namespace fault_shim
