// A library for LD_PRELOAD: stands in for the C library's calls that change a file system, or bring
// a change to the disk. No part of Lathe; faults.h says what it does.
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdarg>
#include <string>

#include "faults.h"

namespace fault_shim {
namespace {

int open_at(int folder, const char* path, int flags, unsigned mode) {
  return static_cast<int>(
      perform({.operation = "open", .path = absolute(folder, path), .flags = flags},
              [&](std::size_t) { return syscall(SYS_openat, folder, path, flags, mode); }));
}

unsigned mode_argument(int flags, va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, unsigned) : 0;
}

ssize_t write_at(int descriptor, const void* data, std::size_t bytes, std::int64_t offset) {
  return perform({.operation = "write",
                  .path = path_of(descriptor),
                  .offset = offset,
                  .descriptor = descriptor,
                  .data = {static_cast<const char*>(data), bytes}},
                 [&](std::size_t taken) {
                   return offset < 0 ? syscall(SYS_write, descriptor, data, taken)
                                     : syscall(SYS_pwrite64, descriptor, data, taken, offset);
                 });
}

int rename_at(int folder, const char* path, int other_folder, const char* other, unsigned flags) {
  return static_cast<int>(perform({.operation = "rename",
                                   .path = absolute(folder, path),
                                   .other_path = absolute(other_folder, other),
                                   .flags = flags},
                                  [&](std::size_t) {
                                    return syscall(SYS_renameat2, folder, path, other_folder, other,
                                                   flags);
                                  }));
}

int unlink_at(int folder, const char* path, int flags) {
  const bool is_folder = (flags & AT_REMOVEDIR) != 0;
  return static_cast<int>(
      perform({.operation = is_folder ? "rmdir" : "unlink", .path = absolute(folder, path)},
              [&](std::size_t) { return syscall(SYS_unlinkat, folder, path, flags); }));
}

int make_folder_at(int folder, const char* path, mode_t mode) {
  return static_cast<int>(
      perform({.operation = "mkdir", .path = absolute(folder, path)},
              [&](std::size_t) { return syscall(SYS_mkdirat, folder, path, mode); }));
}

int sync(int descriptor, long call) {
  return static_cast<int>(
      perform({.operation = "fsync", .path = path_of(descriptor), .descriptor = descriptor},
              [&](std::size_t) { return syscall(call, descriptor); }));
}

int link_at(const Call& call, const RealCall& real) {
  return static_cast<int>(perform(call, real));
}

}  // namespace
}  // namespace fault_shim

using fault_shim::absolute;
using fault_shim::path_of;
using fault_shim::perform;

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const unsigned mode = fault_shim::mode_argument(flags, arguments);
  va_end(arguments);
  return fault_shim::open_at(AT_FDCWD, path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const unsigned mode = fault_shim::mode_argument(flags, arguments);
  va_end(arguments);
  return fault_shim::open_at(AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const unsigned mode = fault_shim::mode_argument(flags, arguments);
  va_end(arguments);
  return fault_shim::open_at(folder, path, flags, mode);
}

int creat(const char* path, mode_t mode) {
  return fault_shim::open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

ssize_t write(int descriptor, const void* data, std::size_t bytes) {
  return fault_shim::write_at(descriptor, data, bytes, -1);
}

ssize_t pwrite(int descriptor, const void* data, std::size_t bytes, off_t offset) {
  return fault_shim::write_at(descriptor, data, bytes, offset);
}

ssize_t pwrite64(int descriptor, const void* data, std::size_t bytes, off64_t offset) {
  return fault_shim::write_at(descriptor, data, bytes, offset);
}

// One buffer: what follows of it may be written or not, as with any short write.
ssize_t writev(int descriptor, const iovec* pieces, int count) {
  std::string joined;
  for (int i = 0; i < count; ++i) {
    joined.append(static_cast<const char*>(pieces[i].iov_base), pieces[i].iov_len);
  }
  return fault_shim::write_at(descriptor, joined.data(), joined.size(), -1);
}

int fsync(int descriptor) {
  return fault_shim::sync(descriptor, SYS_fsync);
}

int fdatasync(int descriptor) {
  return fault_shim::sync(descriptor, SYS_fdatasync);
}

int ftruncate(int descriptor, off_t bytes) noexcept {
  return static_cast<int>(
      perform({.operation = "ftruncate",
               .path = path_of(descriptor),
               .offset = bytes,
               .descriptor = descriptor},
              [&](std::size_t) { return syscall(SYS_ftruncate, descriptor, bytes); }));
}

int truncate(const char* path, off_t bytes) noexcept {
  return static_cast<int>(
      perform({.operation = "truncate", .path = absolute(AT_FDCWD, path), .offset = bytes},
              [&](std::size_t) { return syscall(SYS_truncate, path, bytes); }));
}

int rename(const char* path, const char* other) noexcept {
  return fault_shim::rename_at(AT_FDCWD, path, AT_FDCWD, other, 0);
}

int renameat(int folder, const char* path, int other_folder, const char* other) noexcept {
  return fault_shim::rename_at(folder, path, other_folder, other, 0);
}

int renameat2(int folder, const char* path, int other_folder, const char* other,
              unsigned flags) noexcept {
  return fault_shim::rename_at(folder, path, other_folder, other, flags);
}

int mkdir(const char* path, mode_t mode) noexcept {
  return fault_shim::make_folder_at(AT_FDCWD, path, mode);
}

int mkdirat(int folder, const char* path, mode_t mode) noexcept {
  return fault_shim::make_folder_at(folder, path, mode);
}

int unlink(const char* path) noexcept {
  return fault_shim::unlink_at(AT_FDCWD, path, 0);
}

int unlinkat(int folder, const char* path, int flags) noexcept {
  return fault_shim::unlink_at(folder, path, flags);
}

int rmdir(const char* path) noexcept {
  return fault_shim::unlink_at(AT_FDCWD, path, AT_REMOVEDIR);
}

int remove(const char* path) noexcept {
  struct stat status {};
  const bool is_folder = lstat(path, &status) == 0 && S_ISDIR(status.st_mode);
  return fault_shim::unlink_at(AT_FDCWD, path, is_folder ? AT_REMOVEDIR : 0);
}

int symlink(const char* target, const char* path) noexcept {
  return fault_shim::link_at(
      {.operation = "symlink", .path = absolute(AT_FDCWD, path), .other_path = target},
      [&](std::size_t) { return syscall(SYS_symlinkat, target, AT_FDCWD, path); });
}

int symlinkat(const char* target, int folder, const char* path) noexcept {
  return fault_shim::link_at(
      {.operation = "symlink", .path = absolute(folder, path), .other_path = target},
      [&](std::size_t) { return syscall(SYS_symlinkat, target, folder, path); });
}

int link(const char* path, const char* other) noexcept {
  return fault_shim::link_at(
      {.operation = "link",
       .path = absolute(AT_FDCWD, path),
       .other_path = absolute(AT_FDCWD, other)},
      [&](std::size_t) { return syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, other, 0); });
}

int close(int descriptor) {
  return static_cast<int>(
      perform({.operation = "close", .path = path_of(descriptor), .descriptor = descriptor},
              [&](std::size_t) { return syscall(SYS_close, descriptor); }));
}

}  // extern "C"
