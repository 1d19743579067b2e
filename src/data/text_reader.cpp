#include "text_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <system_error>
#include <utility>

#include "base/file_kind.h"
#include "lathe/stop_signal.h"
#include "refuse_data.h"
#include "tokenizer/unicode.h"

namespace lathe {
namespace {

std::string last_problem() {
  return std::generic_category().message(errno);
}

bool continues_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

// Non-blocking, because opening a named pipe without a writer would wait for one, deaf to a stop
// signal; TextReader::wait() waits for it. Regular files ignore it.
FileDescriptor open_text(const std::string& path, const std::string& name) {
  for (;;) {
    FileDescriptor file(path == "-" ? ::dup(STDIN_FILENO)
                                    : ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (file.number() >= 0) return file;
    if (errno != EINTR) refuse(name, "cannot be opened: " + last_problem());
  }
}

// The first byte from `at` on that begins a character of UTF-8.
std::int64_t next_character(const FileDescriptor& file, std::int64_t at, std::int64_t size) {
  char byte = 0;
  while (at < size && ::pread(file.number(), &byte, 1, at) == 1 && continues_character(byte)) ++at;
  return at;
}

}  // namespace

std::size_t last_word_end(std::string_view text) {
  constexpr std::size_t kLongestSpace = 3;  // bytes that say what the next character is
  for (std::size_t at = text.size(); at-- > 1;) {
    const char c = text[at];
    const bool is_plain_space = c == ' ' || c == '\n' || c == '\t';
    if (!is_plain_space || at + kLongestSpace >= text.size()) continue;
    const char* next = text.data() + at + 1;
    if (first_character(next, text.data() + text.size()).kind != CharacterClass::space) return at;
  }
  return 0;
}

std::vector<std::string_view> divide(std::string_view text, std::string_view separator) {
  std::vector<std::string_view> parts;
  for (std::size_t at = 0; (at = text.find(separator)) != text.npos;) {
    parts.push_back(text.substr(0, at));
    text.remove_prefix(at + separator.size());
  }
  parts.push_back(text);
  return parts;
}

TextReader::TextReader(const TextReaderSpec& spec) : spec_(spec) {
  for (const std::string& path : spec_.paths) add(path);
}

void TextReader::add(const std::string& path) {
  Source source{.name = path == "-" ? "stdin" : path,
                .path = path,
                .documents = Documents::file,
                .begin = 0,
                .size = std::nullopt,
                .part = Part::training};
  if (!spec_.document_separator.empty()) source.documents = Documents::separated;
  if (spec_.lines.value_or(path.ends_with(kJsonLinesEnding))) source.documents = Documents::lines;
  struct stat status {};
  const bool is_there = path == "-" || ::stat(path.c_str(), &status) == 0;
  if (!is_there) refuse(source.name, "cannot be opened: " + last_problem());
  if (S_ISDIR(status.st_mode)) refuse(source.name, "is a folder; name the files in it");
  if (S_ISREG(status.st_mode)) {
    open_text(path, source.name);
    if (const FileKind kind = file_kind(path); kind != FileKind::unknown) {
      refuse(source.name, fmt::format("is {}, no text", title(kind)));
    }
    source.size = status.st_size;
  }
  bytes_ = bytes_ && source.size ? std::optional(*bytes_ + *source.size) : std::nullopt;
  split(source);
}

void TextReader::split(const Source& whole) {
  if (whole.documents != Documents::file || spec_.validation_fraction == 0) {
    sources_.push_back(whole);
    return;
  }
  if (!whole.size) {
    refuse(whole.name,
           "is a pipe, whose end --val-fraction cannot know; save it in a file, or give "
           "--document-separator or --val-fraction 0");
  }
  const auto kept = std::floor(static_cast<double>(*whole.size) * (1 - spec_.validation_fraction));
  Source training = whole, validation = whole;
  training.size = next_character(open_text(whole.path, whole.name), static_cast<std::int64_t>(kept),
                                 *whole.size);
  validation.begin = *training.size;
  validation.size = *whole.size - validation.begin;
  validation.part = Part::validation;
  sources_.push_back(training);
  sources_.push_back(validation);
}

void TextReader::open() {
  const Source& source = sources_[current_];
  file_ = open_text(source.path, source.name);
  if (source.begin > 0 && ::lseek(file_.number(), source.begin, SEEK_SET) < 0) {
    refuse(source.name, "cannot be read: " + last_problem());
  }
  left_ = source.size;
  at_document_ = true;
  at_end_ = left_ == 0;
  number_ = 1;
}

bool TextReader::is_to_stop() const {
  return is_stop_requested() || is_stopped_;
}

// Until a pipe has something to read; false: it is to stop before. A signal may find another thread
// than this one, so it is looked for again and again.
bool TextReader::wait() const {
  constexpr int kMilliseconds = 100;
  pollfd pipe = {.fd = file_.number(), .events = POLLIN, .revents = 0};
  while (!is_to_stop()) {
    if (left_ || ::poll(&pipe, 1, kMilliseconds) > 0) return true;
  }
  return false;
}

// Reads on until the buffer has that many bytes, or the source has ended.
void TextReader::fill(std::size_t bytes) {
  const Source& source = sources_[current_];
  while (buffer_.size() < bytes && !at_end_ && wait()) {
    const std::size_t begin = buffer_.size();
    const auto wanted = static_cast<std::int64_t>(bytes - begin);
    buffer_.resize(bytes);
    const auto most = static_cast<std::size_t>(std::min(wanted, left_.value_or(wanted)));
    const ssize_t got = ::read(file_.number(), buffer_.data() + begin, most);
    const int error = errno;
    buffer_.resize(begin + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (got < 0 && (error == EINTR || error == EAGAIN)) continue;
    if (got < 0) refuse(source.name, "cannot be read: " + std::generic_category().message(error));
    if (got == 0 && left_) {
      refuse(source.name, fmt::format("ends {} bytes before its size when it was opened; restore "
                                      "it and start again",
                                      *left_));
    }
    if (left_) *left_ -= got;
    at_end_ = left_ ? *left_ == 0 : got == 0;
    bytes_read_ += got;
  }
}

// Where the last separator in the buffer ends; 0: there is none. Separators are found from the
// left, as they are when the piece is divided.
std::size_t TextReader::last_separator_end() const {
  const std::string& separator = spec_.document_separator;
  std::size_t end = 0;
  for (std::size_t at = 0; (at = buffer_.find(separator, end)) != std::string::npos;) {
    end = at + separator.size();
  }
  return end;
}

// How much of the buffer can be given out; 0: more has to be read.
std::size_t TextReader::cut() const {
  if (at_end_) return buffer_.size();
  const Documents documents = sources_[current_].documents;
  if (documents == Documents::lines) {
    const std::size_t end = buffer_.rfind('\n');
    return end == std::string::npos ? 0 : end + 1;
  }
  std::size_t most = buffer_.size();
  if (documents == Documents::separated) {
    if (const std::size_t end = last_separator_end(); end > 0) return end;
    most -= std::min(most, spec_.document_separator.size() - 1);  // one may have begun there
  }
  const std::size_t end = last_word_end(std::string_view(buffer_).substr(0, most));
  if (end > 0 || buffer_.size() < spec_.longest_piece) return end;
  std::size_t character = most - 1;
  while (character > 1 && continues_character(buffer_[character])) --character;
  return character;
}

TextPiece TextReader::take(std::size_t bytes) {
  const Source& source = sources_[current_];
  TextPiece piece{.source = source.name,
                  .text = buffer_.substr(0, bytes),
                  .documents = source.documents,
                  .first_number = number_,
                  .starts_document = at_document_,
                  .part = source.part};
  if (source.documents == Documents::lines) {
    number_ += std::ranges::count(piece.text, '\n');
  } else if (source.documents == Documents::separated) {
    const std::vector<std::string_view> parts = divide(piece.text, spec_.document_separator);
    number_ += std::ssize(parts) - 1;
    at_document_ = parts.size() > 1 && parts.back().empty();
  } else {
    at_document_ = false;
  }
  buffer_.erase(0, bytes);
  return piece;
}

std::optional<TextPiece> TextReader::next() {
  for (; current_ < sources_.size(); ++current_, file_ = FileDescriptor()) {
    if (file_.number() < 0) open();
    std::size_t wanted = spec_.piece_bytes, bytes = 0;
    for (;; wanted = std::max(wanted, 2 * buffer_.size())) {
      fill(wanted);
      if (is_to_stop()) return std::nullopt;
      bytes = cut();
      if (bytes > 0 || at_end_) break;
      if (buffer_.size() >= spec_.longest_piece) {
        refuse(sources_[current_].name,
               fmt::format("line {} has more than {} bytes; is it a .jsonl file, with a document "
                           "on each line?",
                           number_, spec_.longest_piece));
      }
    }
    if (bytes > 0) return take(bytes);
  }
  return std::nullopt;
}

}  // namespace lathe
