// What happens to the calls that reach a file system below one folder. The environment says it:
//
//   FAULT_SHIM_FOLDER     calls on paths below this folder are numbered from 1, over all threads
//   FAULT_SHIM_TRACE      a file that gets a record of each
//   FAULT_SHIM_KIND       kill_before, kill_after, error, short or signal
//   FAULT_SHIM_AT         the number of the first call that it happens to
//   FAULT_SHIM_OPERATIONS only calls of these are numbered: "write,fsync"; all where it is unset
//   FAULT_SHIM_PATH       only calls on a path that holds this text are numbered
//   FAULT_SHIM_CALLS      how many calls in a row, 1 where it is unset
//   FAULT_SHIM_ERRNO      of error: the number that errno gets
//   FAULT_SHIM_BYTES      of short: how many bytes a write takes at most
//   FAULT_SHIM_SIGNAL     of signal: what the process gets before the call
//
// A record is a line of fields between tabs, and what a write wrote: number (0: not numbered),
// result, errno where that is -1, descriptor, flags, offset, bytes written, operation, path, other
// path. "session" is where a process begins, "kill" where the shim has ended it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace fault_shim {

struct Call {
  std::string_view operation;   // the name of the system call, without "at"
  std::string path = {};        // absolute
  std::string other_path = {};  // of those that take two
  std::int64_t flags = 0;       // of open, and of rename
  std::int64_t offset = -1;     // where a write begins or a file is cut; -1: where it stands
  int descriptor = -1;          // of calls that have one
  std::string_view data = {};   // of a write
};

// The real call, of a write with at most that many bytes: its result, with errno set where it is
// -1.
using RealCall = std::function<long(std::size_t bytes)>;

// Does the call, or what the environment says in its place.
long perform(Call call, const RealCall& real);

// Of a path that a call was given, relative to `folder`, a descriptor or AT_FDCWD.
std::string absolute(int folder, const char* path);

// The path that a descriptor stands for.
std::string path_of(int descriptor);

}  // namespace fault_shim
