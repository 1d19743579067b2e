// A file that gains whole lines, and loses none to a disk that is full for a while: what cannot be
// written waits in memory and is written first when it can be. It never holds half a line for
// longer than it takes to cut it away.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "lathe/files.h"

namespace lathe {

// Cuts a file of lines before the first that is not to be kept. A last line without its end was cut
// by a kill. Error(storage).
void cut_lines(const std::filesystem::path& path,
               const std::function<bool(std::string_view)>& keeps);

class LineFile {
 public:
  explicit LineFile(const std::filesystem::path& path);  // appends; Error(storage)

  void add(std::string_view line);  // ends in a line feed
  void flush();                     // tries to write what waits
  // Cuts the file before its first line that is not to be kept, and what waits likewise.
  // Error(storage).
  void cut(const std::function<bool(std::string_view)>& keeps);

  const std::filesystem::path& path() const { return path_; }
  bool is_complete() const { return waiting_.empty() && lost_lines_ == 0; }
  std::int64_t lost_lines() const { return lost_lines_; }  // for which there was no memory
  const std::string& problem() const { return problem_; }  // the last; "": all was well

 private:
  void cut_rest();

  std::filesystem::path path_;
  OutputFile file_;
  std::uint64_t size_;     // of the whole lines in the file
  bool has_rest_ = false;  // of a line, behind these
  std::string waiting_;
  std::int64_t lost_lines_ = 0;
  std::string problem_;
};

}  // namespace lathe
