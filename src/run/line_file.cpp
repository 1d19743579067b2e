#include "line_file.h"

#include "lathe/error.h"

namespace lathe {
namespace {

constexpr std::size_t kMostWaiting = std::size_t{16} << 20;  // bytes: some 100,000 steps

}  // namespace

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
