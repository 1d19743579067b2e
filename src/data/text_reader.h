// Text from files or stdin, in pieces that can be turned into tokens one by one: the tokens of a
// document are those of its pieces, one after the other, whatever the size of a piece.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/files.h"
#include "lathe/tokenize.h"

namespace lathe {

inline constexpr const char* kJsonLinesEnding = ".jsonl";

// Where the documents of a file are.
enum class Documents {
  file,       // the file is one
  separated,  // between separators, which are no text
  lines,      // in the lines of a .jsonl file
};

struct TextPiece {
  std::string source;  // the file's name, for messages
  std::string text;
  Documents documents;
  std::int64_t first_number;  // of the first line or separated document in it, from 1 in its file
  bool starts_document;       // else it goes on in the one that the last piece has ended in
  Part part;                  // of a file that is one document
};

struct TextReaderSpec {
  std::vector<std::string> paths;  // "-" is stdin
  std::optional<bool> lines;       // JSON lines or plain text; nullopt: as the names end
  std::string document_separator;  // of plain text; "": a file is a document
  double validation_fraction = 0;  // of each file that is one document, its end
  std::size_t piece_bytes = std::size_t{1} << 20;  // about
  // Text without a place to be cut at is kept together up to here, and JSON lines must be shorter.
  std::size_t longest_piece = std::size_t{1} << 26;
};

class TextReader {
 public:
  // Error(data) that begins with the name of a file that cannot be read.
  explicit TextReader(const TextReaderSpec& spec);

  std::optional<TextPiece> next();  // nullopt: the end, a stop signal, or stop(). Error(data).

  void stop() { is_stopped_ = true; }  // from any thread: next() no longer waits for a pipe

  std::int64_t bytes_read() const { return bytes_read_; }
  std::optional<std::int64_t> bytes() const { return bytes_; }  // nullopt: not known, a pipe

 private:
  // A file, or one part of it.
  struct Source {
    std::string name;
    std::string path;
    Documents documents;
    std::int64_t begin;                // byte of the file
    std::optional<std::int64_t> size;  // bytes; nullopt: until it ends
    Part part;
  };

  void add(const std::string& path);
  void split(const Source& whole);
  void open();
  bool is_to_stop() const;
  bool wait() const;
  void fill(std::size_t bytes);
  std::size_t cut() const;
  std::size_t last_separator_end() const;
  TextPiece take(std::size_t bytes);

  TextReaderSpec spec_;
  std::vector<Source> sources_;  // in the order of reading
  std::size_t current_ = 0;

  // Of the current source.
  FileDescriptor file_;
  std::string buffer_;                // read and not given out
  std::optional<std::int64_t> left_;  // bytes to read; nullopt: until it ends
  bool at_document_ = true, at_end_ = false;
  std::int64_t number_ = 1;  // of the line or document that comes next or goes on

  std::atomic<bool> is_stopped_ = false;
  std::int64_t bytes_read_ = 0;
  std::optional<std::int64_t> bytes_ = 0;
};

// The last place in `text` where it can be cut with the tokens of both parts those of the whole,
// whatever follows the text; 0: there is none. It is before the last white space of a run that
// something else follows, which ends every word of GPT-2's split pattern (docs/formats.md).
std::size_t last_word_end(std::string_view text);

// What is before, between and after the separators in `text`.
std::vector<std::string_view> divide(std::string_view text, std::string_view separator);

}  // namespace lathe
