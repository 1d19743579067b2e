#include "tensorboard.h"

#include <fmt/format.h>
#include <isa-l/crc.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <chrono>
#include <type_traits>

#include "checkpoint_names.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// TensorBoard takes every file with "tfevents" in its name and reads them in the order of names.
constexpr std::string_view kFilePrefix = "events.out.tfevents.";

// The highest number of an event file in the folder; 0 when there is none.
int last_number(const fs::path& folder) {
  int last = 0;
  for (const fs::path& path : entries(folder, ExitCode::storage)) {
    const std::string name = path.filename().string();
    if (!name.starts_with(kFilePrefix)) continue;
    int number = 0;
    std::from_chars(name.data() + kFilePrefix.size(), name.data() + name.size(), number);
    last = std::max(last, number);
  }
  return last;
}

fs::path made(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error) return folder;
  throw Error(ExitCode::storage,
              fmt::format("{}: cannot be written: {}", folder.string(), error.message()));
}

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Little-endian, as all machines are that Lathe runs on.
template <class Number>
std::string bytes_of(Number value) {
  static_assert(std::endian::native == std::endian::little);
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// CRC-32C, whose value is then turned and shifted: a checksum of data that holds checksums would
// say little (tensorflow/core/lib/hash/crc32c.h).
std::uint32_t masked_checksum(std::string_view bytes) {
  constexpr std::uint32_t kDelta = 0xA282EAD8;
  std::string copy(bytes);  // the library does not write, but its parameter is not const
  const std::uint32_t crc = ~crc32_iscsi(reinterpret_cast<unsigned char*>(copy.data()),
                                         static_cast<int>(copy.size()), ~std::uint32_t{0});
  return std::rotr(crc, 15) + kDelta;
}

// A protocol buffer's fields (protobuf.dev/programming-guides/encoding): a key, which is the
// field's number and the kind of what follows, then the value.
enum class WireType { varint = 0, fixed64 = 1, length = 2, fixed32 = 5 };

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7F) | 0x80);
  return bytes + static_cast<char>(value);
}

std::string key(int field, WireType type) {
  return varint(static_cast<std::uint64_t>(field) << 3 | static_cast<std::uint64_t>(type));
}

std::string field(int number, double value) {
  return key(number, WireType::fixed64) + bytes_of(value);
}
std::string field(int number, float value) {
  return key(number, WireType::fixed32) + bytes_of(value);
}
std::string field(int number, std::int64_t value) {
  return key(number, WireType::varint) + varint(static_cast<std::uint64_t>(value));
}
std::string field(int number, std::string_view bytes) {
  return key(number, WireType::length) + varint(bytes.size()) + std::string(bytes);
}

// Numbers of the fields of Event and SessionLog (tensorflow/core/util/event.proto) and of Summary
// (tensorflow/core/framework/summary.proto).
constexpr int kEventWallTime = 1, kEventStep = 2, kEventFileVersion = 3, kEventSummary = 5,
              kEventSessionLog = 7;
constexpr int kSessionLogStatus = 1;
constexpr std::int64_t kStart = 1;
constexpr int kSummaryValue = 1, kValueTag = 1, kValueSimpleValue = 2;

}  // namespace

std::string framed_record(std::string_view event) {
  const std::string length = bytes_of(std::uint64_t{event.size()});
  return length + bytes_of(masked_checksum(length)) + std::string(event) +
         bytes_of(masked_checksum(event));
}

std::string version_event(double seconds) {
  return field(kEventWallTime, seconds) + field(kEventFileVersion, "brain.Event:2");
}

std::string restart_event(double seconds, std::int64_t step) {
  return field(kEventWallTime, seconds) + field(kEventStep, step) +
         field(kEventSessionLog, field(kSessionLogStatus, kStart));
}

std::string values_event(double seconds, std::int64_t step, std::span<const NamedValue> values) {
  std::string summary;
  for (const auto& [name, value] : values) {
    summary += field(kSummaryValue,
                     field(kValueTag, name) + field(kValueSimpleValue, static_cast<float>(value)));
  }
  return field(kEventWallTime, seconds) + field(kEventStep, step) + field(kEventSummary, summary);
}

TensorBoardWriter::TensorBoardWriter(const fs::path& folder)
    : TensorBoardWriter(folder, last_number(made(folder)) + 1) {}

// TensorBoard takes the first restart it meets for the run's start, and voids nothing for it.
TensorBoardWriter::TensorBoardWriter(const fs::path& folder, int number)
    : is_first_(number == 1), file_(folder / fmt::format("{}{:06}", kFilePrefix, number)) {
  file_.write(framed_record(version_event(seconds_since_1970())));
  if (is_first_) restart(0);
}

void TensorBoardWriter::restart(std::int64_t step) {
  file_.write(framed_record(restart_event(seconds_since_1970(), step)));
}

void TensorBoardWriter::add(std::int64_t step, std::span<const NamedValue> values) {
  if (values.empty()) return;
  file_.write(framed_record(values_event(seconds_since_1970(), step, values)));
}

}  // namespace lathe
