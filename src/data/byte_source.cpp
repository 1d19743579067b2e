#include "byte_source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "lathe/error.h"
#include "refuse_data.h"

namespace lathe {
namespace {

std::string describe(int error_number) {
  return std::error_code(error_number, std::generic_category()).message();
}

// Large sets have more files than the usual 1024 descriptors, and the hard limit is far above.
bool raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return false;
  limit.rlim_cur = limit.rlim_max;
  return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

// Non-blocking, because opening a FIFO without a writer would wait for ever; regular files ignore
// it.
int open_to_read(const std::string& path) {
  const auto try_open = [&] {
    return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  };
  const int descriptor = try_open();
  if (descriptor < 0 && errno == EMFILE && raise_descriptor_limit()) return try_open();
  return descriptor;
}

class FileBytes final : public ByteSource {
 public:
  // Takes the descriptor over.
  FileBytes(int descriptor, std::int64_t size) : ByteSource(size), descriptor_(descriptor) {}
  ~FileBytes() override { ::close(descriptor_); }

  void read(std::int64_t offset, std::span<std::byte> out,
            const std::string& label) const override {
    while (!out.empty()) {
      const ssize_t got = ::pread(descriptor_, out.data(), out.size(), offset);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) refuse(label, fmt::format("byte {}: {}", offset, describe(errno)));
      if (got == 0) refuse_shrunk(label);
      out = out.subspan(static_cast<std::size_t>(got));
      offset += got;
    }
  }

 private:
  [[noreturn]] void refuse_shrunk(const std::string& label) const {
    struct stat status {};
    ::fstat(descriptor_, &status);
    refuse(label, fmt::format("had {} bytes when it was opened and has {} now; restore it and "
                              "start again",
                              size(), status.st_size));
  }

  int descriptor_;
};

class MemoryBytes final : public ByteSource {
 public:
  explicit MemoryBytes(std::string text)
      : ByteSource(static_cast<std::int64_t>(text.size())), text_(std::move(text)) {}

  void read(std::int64_t offset, std::span<std::byte> out, const std::string&) const override {
    std::copy_n(std::as_bytes(std::span(text_)).begin() + offset, out.size(), out.begin());
  }

 private:
  std::string text_;
};

// Of shards, where there are some.
std::filesystem::path pattern_in(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::directory_iterator at(folder, error);
  for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    if (at->path().extension() == ".bin") return folder / "*.bin";
  }
  return folder / "*.txt";
}

}  // namespace

std::shared_ptr<const ByteSource> open_bytes(const std::string& path, const std::string& label) {
  const int descriptor = open_to_read(path);
  if (descriptor < 0 && errno == EMFILE) {
    refuse(label, "too many open files; raise the limit (ulimit -n) above the number of files");
  }
  if (descriptor < 0) refuse(label, "cannot be opened: " + describe(errno));
  struct stat status {};
  const int failed = ::fstat(descriptor, &status) != 0 ? errno : 0;
  const auto file = std::make_shared<FileBytes>(descriptor, status.st_size);
  if (failed != 0) refuse(label, "cannot be read: " + describe(failed));
  if (S_ISDIR(status.st_mode)) {
    refuse(label,
           fmt::format("is a folder; name files in it, such as '{}'", pattern_in(path).string()));
  }
  if (!S_ISREG(status.st_mode)) {
    refuse(label, "is a pipe or device; data are read in any order, so save them in a file");
  }
  return file;
}

std::shared_ptr<const ByteSource> bytes_of(std::string text) {
  return std::make_shared<MemoryBytes>(std::move(text));
}

}  // namespace lathe
