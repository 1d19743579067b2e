#include "lathe/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sha2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>
#include <system_error>
#include <utility>
#include <vector>

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPiece = std::size_t{1} << 20;

[[noreturn]] void fail(ExitCode code, const fs::path& path, const char* action) {
  const std::string reason = std::generic_category().message(errno);
  throw Error(code, fmt::format("{}: cannot {}: {}", path.string(), action, reason));
}

// open(2), again when a signal came between.
int open_file(const fs::path& path, int flags) {
  for (;;) {
    const int number = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
    if (number >= 0 || errno != EINTR) return number;
  }
}

XXH3_state_t* as_state(void* state) {
  return static_cast<XXH3_state_t*>(state);
}

// For a file system that cannot exchange names. What is there moves aside first, and back when the
// new one cannot take its place.
void replace_in_two_steps(const fs::path& partial, const fs::path& final, const fs::path& removed) {
  if (::rename(final.c_str(), removed.c_str()) != 0) fail(ExitCode::storage, final, "rename");
  if (::rename(partial.c_str(), final.c_str()) == 0) return;
  const std::string reason = std::generic_category().message(errno);
  const bool is_back = ::rename(removed.c_str(), final.c_str()) == 0;
  throw Error(ExitCode::storage,
              fmt::format("{}: cannot rename to: {}{}", final.string(), reason,
                          is_back ? "" : "; what was there is now " + removed.string()));
}

int flags_of(OutputFile::Mode mode) {
  if (mode == OutputFile::Mode::update) return 0;
  return O_CREAT | (mode == OutputFile::Mode::append ? O_APPEND : O_TRUNC);
}

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  std::swap(number_, other.number_);
  return *this;
}

FileDescriptor::~FileDescriptor() {
  if (number_ >= 0) ::close(number_);
}

int FileDescriptor::release() {
  return std::exchange(number_, -1);
}

// O_NONBLOCK: a named pipe must be refused, not waited for. It means nothing for regular files.
InputFile::InputFile(fs::path path, ExitCode code)
    : path_(std::move(path)), code_(code), file_(open_file(path_, O_RDONLY | O_NONBLOCK)) {
  struct stat status {};
  if (file_.number() < 0) fail(code_, path_, "open");
  if (::fstat(file_.number(), &status) != 0) fail(code_, path_, "examine");
  if (!S_ISREG(status.st_mode)) {
    throw Error(code_, fmt::format("{}: is {}, not a file", path_.string(),
                                   S_ISDIR(status.st_mode) ? "a folder" : "a device or pipe"));
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

void InputFile::read(std::uint64_t offset, std::span<std::byte> to) const {
  while (!to.empty()) {
    const ssize_t n = ::pread(file_.number(), to.data(), to.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(code_, path_, "read");
    if (n == 0) {
      throw Error(code_, fmt::format("{}: ends at byte {}, where {} more should be", path_.string(),
                                     offset, to.size()));
    }
    offset += static_cast<std::uint64_t>(n);
    to = to.subspan(static_cast<std::size_t>(n));
  }
}

OutputFile::OutputFile(fs::path path, Mode mode)
    : path_(std::move(path)), file_(open_file(path_, O_WRONLY | flags_of(mode))) {
  if (file_.number() < 0) {
    fail(ExitCode::storage, path_, mode == Mode::update ? "open" : "create");
  }
}

void OutputFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(file_.number(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(ExitCode::storage, path_, "write");
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

void OutputFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n =
        ::pwrite(file_.number(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(ExitCode::storage, path_, "write");
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
}

void OutputFile::truncate(std::uint64_t bytes) {
  while (::ftruncate(file_.number(), static_cast<off_t>(bytes)) != 0) {
    if (errno != EINTR) fail(ExitCode::storage, path_, "cut");
  }
}

std::uint64_t OutputFile::size() const {
  struct stat status {};
  if (::fstat(file_.number(), &status) != 0) fail(ExitCode::storage, path_, "examine");
  return static_cast<std::uint64_t>(status.st_size);
}

void OutputFile::sync() {
  while (::fsync(file_.number()) != 0) {
    if (errno != EINTR) fail(ExitCode::storage, path_, "sync to disk");
  }
}

// Some file systems report a failed write here. After EINTR Linux has closed the file.
void OutputFile::close() {
  if (::close(file_.release()) != 0 && errno != EINTR) fail(ExitCode::storage, path_, "close");
}

std::string read_file(const fs::path& path, ExitCode code) {
  const InputFile file(path, code);
  std::string contents(file.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(contents)));
  return contents;
}

void write_file_atomically(const fs::path& path, std::string_view contents) {
  const fs::path partial =
      path.parent_path() / fmt::format(".{}.partial", path.filename().string());
  try {
    OutputFile file(partial);
    file.write(contents);
    file.sync();
    file.close();
    if (::rename(partial.c_str(), path.c_str()) != 0) fail(ExitCode::storage, path, "replace");
  } catch (...) {
    std::error_code ignored;
    fs::remove(partial, ignored);
    throw;
  }
  sync_folder(path.parent_path());
}

void publish(const fs::path& partial, const fs::path& final, const fs::path& removed) {
  exchange_names(partial, final, removed);
  sync_folder(final.parent_path());
}

void exchange_names(const fs::path& partial, const fs::path& final, const fs::path& removed) {
  std::error_code ignored;
  if (!fs::exists(final, ignored)) {
    if (::rename(partial.c_str(), final.c_str()) != 0) fail(ExitCode::storage, final, "rename to");
  } else if (::renameat2(AT_FDCWD, partial.c_str(), AT_FDCWD, final.c_str(), RENAME_EXCHANGE) !=
             0) {
    replace_in_two_steps(partial, final, removed);
  }
}

void sync_file(const fs::path& path) {
  const FileDescriptor file(open_file(path, O_RDONLY));
  if (file.number() < 0 && errno == ENOENT) return;
  if (file.number() < 0) fail(ExitCode::storage, path, "open");
  while (::fsync(file.number()) != 0) {
    if (errno != EINTR) fail(ExitCode::storage, path, "sync to disk");
  }
}

void sync_folder(const fs::path& folder) {
  const fs::path path = folder.empty() ? fs::path(".") : folder;
  const FileDescriptor file(open_file(path, O_RDONLY | O_DIRECTORY));
  if (file.number() < 0) fail(ExitCode::storage, path, "open folder");
  while (::fsync(file.number()) != 0) {
    if (errno == EINVAL) return;  // a file system that cannot sync folders: nothing left to do
    if (errno != EINTR) fail(ExitCode::storage, path, "sync folder to disk");
  }
}

Checksum::Checksum()
    : state_(XXH3_createState(), [](void* state) { XXH3_freeState(as_state(state)); }) {
  if (state_ == nullptr) throw std::bad_alloc();
  XXH3_64bits_reset(as_state(state_.get()));
}

void Checksum::update(std::span<const std::byte> bytes) {
  XXH3_64bits_update(as_state(state_.get()), bytes.data(), bytes.size());
}

std::uint64_t Checksum::value() const {
  return XXH3_64bits_digest(as_state(state_.get()));
}

FileDigest digest_file(const InputFile& file) {
  return digest_part(file, 0, file.size());
}

FileDigest digest_part(const InputFile& file, std::uint64_t begin, std::uint64_t count) {
  Checksum checksum;
  std::vector<std::byte> piece(std::min<std::uint64_t>(count, kPiece));
  for (std::uint64_t at = 0; at < count;) {
    const auto bytes = std::span(piece).first(std::min<std::uint64_t>(count - at, kPiece));
    file.read(begin + at, bytes);
    checksum.update(bytes);
    at += bytes.size();
  }
  return {.bytes = count, .xxh3 = checksum.value()};
}

std::string sha256(std::string_view bytes) {
  std::array<char, SHA256_DIGEST_STRING_LENGTH> digits{};
  SHA256Data(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size(), digits.data());
  return digits.data();
}

}  // namespace lathe
