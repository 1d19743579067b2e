// safetensors files: tensors by name in one file, behind a JSON header (docs/formats.md).
// The reader enforces every rule of the format, so what it lists can be read without a check.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lathe/backend.h"
#include "lathe/error.h"
#include "lathe/files.h"
#include "lathe/stored_type.h"
#include "lathe/tensor.h"

namespace lathe {

struct TensorInfo {
  std::string name;
  StoredType type;
  std::vector<std::int64_t> shape;  // may be empty (a scalar) or hold zeros
  std::uint64_t begin, end;         // bytes, from the first data byte

  std::int64_t count() const;  // elements
};

class SafetensorsReader {
 public:
  SafetensorsReader(const std::filesystem::path& path, ExitCode code_on_error);

  const std::filesystem::path& path() const { return file_.path(); }
  ExitCode code() const { return file_.code(); }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // in file order
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const TensorInfo* find(std::string_view name) const;  // nullptr: no such tensor
  // Reads bytes [byte_offset, byte_offset + to.size()) of a tensor.
  void read(const TensorInfo& tensor, std::uint64_t byte_offset, std::span<std::byte> to) const;

 private:
  void parse_header(std::uint64_t header_bytes);
  void check_layout() const;

  InputFile file_;
  std::uint64_t data_begin_ = 0;  // byte of the file
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
  std::map<std::string, std::string> metadata_;
};

// What the header says of a tensor that is to be written.
struct TensorEntry {
  std::string name;
  DType type;
  std::vector<std::int64_t> shape;
};

// Writes a file piece by piece. Its content depends on the arguments alone, so equal tensors leave
// equal files. Errors: storage.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::filesystem::path& path, std::span<const TensorEntry> tensors,
                    const std::map<std::string, std::string>& metadata);

  void append(std::span<const std::byte> bytes);  // of the tensors, in their order
  FileDigest finish();                            // syncs and closes

 private:
  void write(std::span<const std::byte> bytes);

  OutputFile file_;
  Checksum checksum_;
  FileDigest digest_;
  std::uint64_t end_ = 0;  // bytes that make the file whole
};

// A tensor to be saved or loaded: its memory on the device holds exactly the elements of `shape`,
// which leaves out padding rows, or some of them: those from `first` on that this rank has.
struct NamedTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  Tensor memory;
  std::int64_t first = 0;
};

// The bytes of a piece of a tensor's memory, on the host; they last until the next call.
using PieceReader = std::function<std::span<const std::byte>(const Tensor& piece)>;
PieceReader read_in_place();             // of memory of the host
PieceReader download(Backend& backend);  // through one small buffer

// Writes all tensors; what the writer is given back for is finish(). Error(storage).
SafetensorsWriter write_tensors(const std::filesystem::path& path, const PieceReader& read,
                                std::span<const NamedTensor> tensors,
                                const std::map<std::string, std::string>& metadata);

// A file that several ranks write: one begins it, with the header and as long as it will be, then
// each writes what it has of the tensors to its place. Both sync. What they give back says what was
// written: together all bytes, each once. Error(storage).
struct FilePart {
  std::uint64_t begin;
  FileDigest digest;
};
FilePart begin_shared_file(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                           const std::map<std::string, std::string>& metadata);
std::vector<FilePart> write_shares(const std::filesystem::path& path, const PieceReader& read,
                                   std::span<const NamedTensor> tensors,
                                   const std::map<std::string, std::string>& metadata);

// Bytes of the file that write_tensors() makes.
std::uint64_t safetensors_bytes(std::span<const NamedTensor> tensors,
                                const std::map<std::string, std::string>& metadata);

// Writes and syncs the file. Device memory passes through one small host buffer. Error(storage).
FileDigest write_safetensors(const std::filesystem::path& path, Backend& backend,
                             std::span<const NamedTensor> tensors,
                             const std::map<std::string, std::string>& metadata);

// Fills to.memory from the tensor of that name, converting floats when the types differ. Throws the
// reader's error code when it is absent or has another shape.
void load_tensor(const SafetensorsReader& reader, Backend& backend, const NamedTensor& to);

std::string shape_string(std::span<const std::int64_t> shape);  // "(768, 3072)"

}  // namespace lathe
