// Bytes at rest that are read at any offset: a file, or memory.
//
// Files are read with pread(2), not through mmap(2). When a mapped file shrinks under the run, its
// lost pages raise SIGBUS and the rest of its last page reads as zeros, which are valid tokens; a
// read that comes back short is an ordinary error. Descriptors stay open, so a file that is
// deleted, or replaced by rename, goes on being read as it was.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace lathe {

class ByteSource {
 public:
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
  virtual ~ByteSource() = default;

  std::int64_t size() const { return size_; }  // when it was opened

  // Fills `out` from byte `offset` on; all of it lies inside size(). Thread-safe. Throws
  // Error(data) that begins with `label` when the bytes are gone or cannot be read.
  virtual void read(std::int64_t offset, std::span<std::byte> out,
                    const std::string& label) const = 0;

 protected:
  explicit ByteSource(std::int64_t size) : size_(size) {}

 private:
  std::int64_t size_;
};

// Opens a regular file; throws Error(data) that begins with `label` for anything else.
std::shared_ptr<const ByteSource> open_bytes(const std::string& path, const std::string& label);

std::shared_ptr<const ByteSource> bytes_of(std::string text);

}  // namespace lathe
