// Files as bytes on a disk. Every failure is an Error that names the path and the system's reason.
// A write is durable once its file and then its folder are synced; nothing here skips either.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "lathe/error.h"

namespace lathe {

// An open file, closed with its owner.
class FileDescriptor {
 public:
  explicit FileDescriptor(int number = -1) : number_(number) {}
  FileDescriptor(FileDescriptor&& other) noexcept : number_(other.release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();

  int number() const { return number_; }
  int release();  // gives up ownership

 private:
  int number_;
};

// A regular file to read from. Errors carry `code`: whose file it is decides the exit code.
class InputFile {
 public:
  InputFile(std::filesystem::path path, ExitCode code);

  const std::filesystem::path& path() const { return path_; }
  ExitCode code() const { return code_; }
  std::uint64_t size() const { return size_; }  // bytes, when it was opened
  // Fills `to` from byte `offset` on. Safe from several threads at once.
  void read(std::uint64_t offset, std::span<std::byte> to) const;

 private:
  std::filesystem::path path_;
  ExitCode code_;
  FileDescriptor file_;
  std::uint64_t size_ = 0;
};

// A file to write to, one piece after another. Errors are Error(storage).
class OutputFile {
 public:
  // update: what is there stays, and must be there.
  enum class Mode { replace, append, update };

  explicit OutputFile(std::filesystem::path path, Mode mode = Mode::replace);

  void write(std::span<const std::byte> bytes);  // all of them
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);  // over what is there
  void truncate(std::uint64_t bytes);                                     // to its first `bytes`
  std::uint64_t size() const;
  void sync();   // to the disk
  void close();  // reports what the destructor would swallow

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
};

std::string read_file(const std::filesystem::path& path, ExitCode code);

// After this, `path` holds `contents`, also after a power cut; after a failure (or before) it
// holds what it held. Works through ".NAME.partial" beside it.
void write_file_atomically(const std::filesystem::path& path, std::string_view contents);

// Gives what was written and synced as `partial` the name `final`, in the same folder. What had
// that name, a file or a folder, changes places with it where the file system can, so that at no
// moment there is none, and is left for the caller under the name `partial` or `removed`. Where it
// cannot and a kill comes between, `removed` is what there is. Errors: storage; `final` is what it
// was, or the message says where that is.
void publish(const std::filesystem::path& partial, const std::filesystem::path& final,
             const std::filesystem::path& removed);

// The renames of publish() alone: nothing of it is durable before the folder is synced.
void exchange_names(const std::filesystem::path& partial, const std::filesystem::path& final,
                    const std::filesystem::path& removed);

// Makes durable what is in a file, whoever has written it; nothing where there is none.
// Error(storage).
void sync_file(const std::filesystem::path& path);

// Makes names created, renamed or removed in `folder` durable.
void sync_folder(const std::filesystem::path& folder);

// XXH3-64 of a sequence of bytes.
class Checksum {
 public:
  Checksum();
  void update(std::span<const std::byte> bytes);
  std::uint64_t value() const;

 private:
  std::unique_ptr<void, void (*)(void*)> state_;
};

struct FileDigest {
  std::uint64_t bytes = 0;
  std::uint64_t xxh3 = 0;
  bool operator==(const FileDigest&) const = default;
};

FileDigest digest_file(const InputFile& file);  // reads all of it, piece by piece
// Of `bytes` bytes from `begin` on.
FileDigest digest_part(const InputFile& file, std::uint64_t begin, std::uint64_t bytes);

std::string sha256(std::string_view bytes);  // 64 hexadecimal digits, as sha256sum prints them

}  // namespace lathe
