// Event files that TensorBoard reads: records of protocol buffers, with checksums, only ever
// appended to. docs/formats.md says what is in them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "lathe/files.h"

namespace lathe {

using NamedValue = std::pair<std::string, double>;

class TensorBoardWriter {
 public:
  // Begins a new event file behind those that `folder` holds; makes the folder. Error(storage).
  explicit TensorBoardWriter(const std::filesystem::path& folder);

  bool is_first() const { return is_first_; }  // there was no event file before this one
  // What earlier files say of `step` and later steps is void.
  void restart(std::int64_t step);
  void add(std::int64_t step, std::span<const NamedValue> values);  // nothing of none

 private:
  TensorBoardWriter(const std::filesystem::path& folder, int number);

  bool is_first_;
  OutputFile file_;
};

// A record as TensorFlow frames it, around an event.
std::string framed_record(std::string_view event);

// Events, `seconds` since 1970.
std::string version_event(double seconds);
std::string restart_event(double seconds, std::int64_t step);
std::string values_event(double seconds, std::int64_t step, std::span<const NamedValue> values);

}  // namespace lathe
