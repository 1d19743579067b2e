#include "lathe/folder_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>

#include "lathe/error.h"

namespace lathe {
namespace {

int open_to_lock(const std::filesystem::path& folder) {
  return ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

// flock(2), again when a signal came between; what failed, or 0.
int lock(int folder, int operation) {
  while (::flock(folder, operation | LOCK_NB) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

}  // namespace

// is_held() shares the lock for an instant, which keeps this from having it for itself: what is
// still locked after a few tries is locked in earnest.
FolderLock::FolderLock(const std::filesystem::path& folder) : folder_(open_to_lock(folder)) {
  constexpr int kTries = 20;
  constexpr std::chrono::milliseconds kBetween{5};
  if (folder_.number() < 0) {
    throw Error(ExitCode::storage, fmt::format("{}: cannot be opened: {}", folder.string(),
                                               std::generic_category().message(errno)));
  }
  for (int tries = 0; lock(folder_.number(), LOCK_EX) == EWOULDBLOCK; ++tries) {
    if (tries == kTries) {
      throw Error(ExitCode::usage,
                  fmt::format("--out {}: another process is writing there; wait for it or stop it, "
                              "or give another folder",
                              folder.string()));
    }
    std::this_thread::sleep_for(kBetween);
  }
}

bool FolderLock::is_held(const std::filesystem::path& folder) {
  const FileDescriptor opened(open_to_lock(folder));
  return opened.number() >= 0 && lock(opened.number(), LOCK_SH) == EWOULDBLOCK;
}

}  // namespace lathe
