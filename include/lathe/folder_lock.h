// A folder that one process writes into at a time. The lock is the kernel's: it goes with the
// process, however that ends, and leaves no file.
#pragma once

#include <filesystem>

#include "lathe/files.h"

namespace lathe {

class FolderLock {
 public:
  FolderLock() = default;  // of nothing

  // Throws Error(usage) that names --out when another process holds the folder's lock. Where the
  // file system has no locks, nothing is held.
  explicit FolderLock(const std::filesystem::path& folder);

  // Whether some process holds the lock of the folder. Asking holds nobody up: who locks meanwhile
  // tries again. false, too, where there is no such folder or the file system has no locks.
  static bool is_held(const std::filesystem::path& folder);

  bool is_of_folder() const { return folder_.number() >= 0; }

 private:
  FileDescriptor folder_;
};

}  // namespace lathe
