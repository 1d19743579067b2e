#include "lathe/trace.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "lathe/error.h"
#include "lathe/files.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr const char* kBegin = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
constexpr const char* kTrainingRow = "training";
constexpr std::size_t kNowhere = SIZE_MAX;

// Microseconds with all three decimals that there are: so spans that nest do so in the text.
std::string microseconds(SteadyTime::duration time) {
  const std::int64_t nanoseconds =
      std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
  const std::int64_t size = std::abs(nanoseconds);
  return fmt::format("{}{}.{:03}", nanoseconds < 0 ? "-" : "", size / 1000, size % 1000);
}

std::string name_event(int rank, std::size_t row, const char* what, const std::string& name) {
  const std::string quoted =
      nlohmann::json(name).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  return fmt::format(R"({{"ph":"M","pid":{},"tid":{},"ts":0,"name":"{}","args":{{"name":{}}}}})",
                     rank, row, what, quoted);
}

// Nothing is replaced that is not a trace: a name mistyped costs no data.
void require_trace_or_nothing(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return;
  if (!fs::is_regular_file(path, ignored)) {
    throw Error(ExitCode::usage,
                fmt::format("--trace {}: is no file; give the name of one", path.string()));
  }
  const InputFile file(path, ExitCode::storage);
  const std::string begin = kBegin;
  std::string found(std::min<std::uint64_t>(file.size(), begin.size()), ' ');
  file.read(0, std::as_writable_bytes(std::span(found)));
  if (found.empty() || found == begin) return;
  throw Error(ExitCode::usage, fmt::format("--trace {}: is there and holds no trace; give another "
                                           "name",
                                           path.string()));
}

bool lies_in(const fs::path& path, const fs::path& folder) {
  const fs::path relative = fs::absolute(path).lexically_normal().lexically_relative(
      (fs::absolute(folder) / "").lexically_normal());
  return !relative.empty() && *relative.begin() != "..";
}

}  // namespace

Trace::Trace(int rank, std::size_t most_events)
    : rank_(rank), most_events_(most_events), rows_{kTrainingRow} {
  rows_of_threads_[std::this_thread::get_id()] = 0;
}

void Trace::start() {
  started_ = std::chrono::system_clock::now();
  steady_started_ = std::chrono::steady_clock::now();
  is_recording_ = true;
}

bool Trace::is_full() const {
  const std::scoped_lock lock(mutex_);
  return events_.size() >= most_events_;
}

Trace::Span::Span(Trace* trace, const char* name, const char* category, TraceNumber number)
    : trace_(trace != nullptr && trace->is_recording() ? trace : nullptr) {
  if (trace_ == nullptr) return;
  const SteadyTime now = std::chrono::steady_clock::now();
  const std::scoped_lock lock(trace_->mutex_);
  index_ = trace_->add({name, category, number, now, now}, trace_->row_of_thread(),
                       /*is_open=*/true);
}

Trace::Span::~Span() {
  if (trace_ == nullptr) return;
  const SteadyTime now = std::chrono::steady_clock::now();
  const std::scoped_lock lock(trace_->mutex_);
  if (index_ >= trace_->events_.size()) return;  // left out, or the recording has ended
  trace_->events_[index_].event.end = now;
  trace_->events_[index_].is_open = false;
}

void Trace::record(const TraceEvent& event, const char* row) {
  if (!is_recording()) return;
  const std::scoped_lock lock(mutex_);
  add(event, row_of(row), /*is_open=*/false);
}

void Trace::record(const TimedOperation& operation) {
  if (!is_recording()) return;
  const TraceNumber layer =
      operation.layer < 0 ? TraceNumber{} : TraceNumber{"layer", operation.layer};
  const std::scoped_lock lock(mutex_);
  add({operation.name, "operation", layer, operation.start, operation.end}, row_of_thread(),
      /*is_open=*/false);
}

// The event's place, or kNowhere.
std::size_t Trace::add(const TraceEvent& event, std::size_t row, bool is_open) {
  if (!is_recording()) return kNowhere;
  if (events_.size() >= most_events_) {
    ++left_out_;
    return kNowhere;
  }
  events_.push_back({event, row, is_open});
  return events_.size() - 1;
}

std::size_t Trace::row_of_thread() {
  const auto [found, is_new] =
      rows_of_threads_.try_emplace(std::this_thread::get_id(), rows_.size());
  if (!is_new) return found->second;
  std::array<char, 16> name{};
  pthread_getname_np(pthread_self(), name.data(), name.size());
  rows_.emplace_back(name.data());
  return found->second;
}

std::size_t Trace::row_of(const std::string& name) {
  const auto found = std::ranges::find(rows_, name);
  if (found != rows_.end()) return static_cast<std::size_t>(found - rows_.begin());
  rows_.push_back(name);
  return rows_.size() - 1;
}

std::string Trace::format(const Recorded& recorded, SteadyTime origin) const {
  const auto& [name, category, number, start, end] = recorded.event;
  std::string arguments =
      number.name == nullptr ? "" : fmt::format(R"("{}":{})", number.name, number.value);
  if (recorded.is_open) {
    arguments += fmt::format(R"({}"unfinished":true)", arguments.empty() ? "" : ",");
  }
  return fmt::format(
      R"({{"ph":"X","pid":{},"tid":{},"ts":{},"dur":{},"name":"{}","cat":"{}","args":{{{}}}}})",
      rank_, recorded.row, microseconds(start - origin), microseconds(end - start), name, category,
      arguments);
}

Trace::Text Trace::finish(WallTime origin) {
  const SteadyTime now = std::chrono::steady_clock::now();
  const SteadyTime steady_origin =
      steady_started_ - std::chrono::duration_cast<SteadyTime::duration>(started_ - origin);
  const std::scoped_lock lock(mutex_);
  is_recording_ = false;
  Text text{.events = name_event(rank_, 0, "process_name", fmt::format("rank {}", rank_)),
            .count = events_.size(),
            .left_out = left_out_};
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    text.events.append(",\n").append(name_event(rank_, row, "thread_name", rows_[row]));
  }
  for (Recorded& recorded : events_) {
    if (recorded.is_open) recorded.event.end = now;
    text.events.append(",\n").append(format(recorded, steady_origin));
  }
  events_ = {};
  return text;
}

void check_trace_path(const fs::path& path, const fs::path& made_later) {
  require_trace_or_nothing(path);
  const fs::path folder = path.parent_path();
  std::error_code ignored;
  const bool is_there = folder.empty() || fs::exists(folder, ignored);
  if (!is_there && lies_in(path, made_later)) return;
  const fs::path trial = folder / fmt::format(".{}.trial", path.filename().string());
  try {
    OutputFile file(trial);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("--trace {}: {}", path.string(), error.what()));
  }
  fs::remove(trial, ignored);
}

void write_trace(const fs::path& path, std::span<const Trace::Text> ranks) {
  require_trace_or_nothing(path);
  std::string text = kBegin;
  for (const Trace::Text& rank : ranks) {
    text += &rank == &ranks.front() ? "" : ",\n";
    text += rank.events;
  }
  write_file_atomically(path, text + "\n]}\n");
}

}  // namespace lathe
