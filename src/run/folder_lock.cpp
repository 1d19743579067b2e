#include "lathe/folder_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

#include <cerrno>
#include <system_error>

#include "lathe/error.h"

namespace lathe {

FolderLock::FolderLock(const std::filesystem::path& folder)
    : folder_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (folder_.number() < 0) {
    throw Error(ExitCode::storage, fmt::format("{}: cannot be opened: {}", folder.string(),
                                               std::generic_category().message(errno)));
  }
  while (::flock(folder_.number(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return;
    throw Error(ExitCode::usage,
                fmt::format("--out {}: another process is writing there; wait for it or stop it, "
                            "or give another folder",
                            folder.string()));
  }
}

}  // namespace lathe
