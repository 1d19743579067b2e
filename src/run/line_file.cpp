#include "lathe/line_file.h"

#include <system_error>

#include "lathe/error.h"

namespace lathe {
namespace {

constexpr std::size_t kMostWaiting = std::size_t{16} << 20;  // bytes: some 100,000 steps

std::size_t kept_bytes(std::string_view text, const std::function<bool(std::string_view)>& keeps) {
  std::size_t kept = 0;
  for (std::size_t end = 0; (end = text.find('\n', kept)) != text.npos; kept = end + 1) {
    if (!keeps(text.substr(kept, end - kept))) break;
  }
  return kept;
}

}  // namespace

void cut_lines(const std::filesystem::path& path,
               const std::function<bool(std::string_view)>& keeps) {
  if (!std::filesystem::exists(path)) return;
  const std::string text = read_file(path, ExitCode::storage);
  const std::size_t kept = kept_bytes(text, keeps);
  if (kept == text.size()) return;
  std::error_code why;
  std::filesystem::resize_file(path, kept, why);
  if (why) {
    throw Error(ExitCode::storage, path.string() + ": cannot be written: " + why.message());
  }
}

LineFile::LineFile(const std::filesystem::path& path)
    : path_(path), file_(path, OutputFile::Mode::append), size_(file_.size()) {}

void LineFile::add(std::string_view line) {
  if (waiting_.size() + line.size() > kMostWaiting) {
    ++lost_lines_;
  } else {
    waiting_ += line;
  }
  flush();
}

// Of lines that a full disk took in part, the whole ones stay.
void LineFile::flush() {
  if (waiting_.empty()) return;
  try {
    if (has_rest_) file_.truncate(size_);
    has_rest_ = false;
    file_.write(waiting_);
    size_ += waiting_.size();
    waiting_.clear();
  } catch (const Error& error) {
    problem_ = error.what();
    cut_rest();
  }
}

void LineFile::cut(const std::function<bool(std::string_view)>& keeps) {
  cut_lines(path_, keeps);
  size_ = file_.size();
  has_rest_ = false;
  waiting_.resize(kept_bytes(waiting_, keeps));
}

// The file is ours alone: what it has gained is the start of what was to be written.
void LineFile::cut_rest() {
  try {
    has_rest_ = true;
    const std::string_view written = std::string_view(waiting_).substr(0, file_.size() - size_);
    const std::size_t whole = written.rfind('\n') + 1;  // 0: none
    size_ += whole;
    waiting_.erase(0, whole);
    file_.truncate(size_);
    has_rest_ = false;
  } catch (const Error&) {
    return;  // has_rest_ says that it has to be done before the next write
  }
}

}  // namespace lathe
