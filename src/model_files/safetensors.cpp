#include "lathe/safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "base/strict_json.h"
#include "tokenizer/utf8.h"

namespace lathe {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kHeaderLimit = 100'000'000;     // the format's own
constexpr std::uint64_t kHeaderAlignment = 8;           // so that data starts aligned
constexpr std::int64_t kPiece = std::int64_t{1} << 22;  // elements: 16 MiB in fp32

std::uint64_t load_little_endian(std::span<const std::byte, kLengthBytes> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;)
    value = value << 8 | std::to_integer<unsigned>(bytes[i]);
  return value;
}

std::array<std::byte, kLengthBytes> store_little_endian(std::uint64_t value) {
  std::array<std::byte, kLengthBytes> bytes;
  for (std::byte& byte : bytes) {
    byte = static_cast<std::byte>(value & 0xff);
    value >>= 8;
  }
  return bytes;
}

// A whole number in [0, 2^63).
std::optional<std::int64_t> natural(const json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const auto number = value.get<std::uint64_t>();
  if (number > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) return std::nullopt;
  return static_cast<std::int64_t>(number);
}

// Bytes of a tensor, or nullopt when they pass 2^63.
std::optional<std::int64_t> bytes_of(StoredType type, std::span<const std::int64_t> shape) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  std::int64_t bytes = size_of(type);
  for (const std::int64_t n : shape) {
    if (__builtin_mul_overflow(bytes, n, &bytes)) return std::nullopt;
  }
  return bytes;
}

// One entry of the header. `where` starts the error messages: file and tensor.
TensorInfo parse_tensor(const std::string& name, const json& entry, const std::string& where,
                        ExitCode code) {
  const auto require = [&](bool holds, std::string_view message) {
    if (!holds) throw Error(code, fmt::format("{}: {}", where, message));
  };
  require(entry.is_object() && entry.size() == 3 && entry.contains("dtype") &&
              entry.contains("shape") && entry.contains("data_offsets"),
          "header entry must hold dtype, shape and data_offsets, nothing else");
  const json& dtype = entry.at("dtype");
  require(dtype.is_string(), "dtype must be a string");
  const auto& type_name = dtype.get_ref<const std::string&>();
  const std::optional<StoredType> type = stored_type_named(type_name);
  require(type.has_value(), fmt::format("type {}, must be one of {}", quote(type_name),
                                        fmt::join(stored_type_names(), ", ")));
  TensorInfo info{.name = name, .type = *type, .shape = {}, .begin = 0, .end = 0};
  require(entry.at("shape").is_array(), "shape must be a list");
  for (const json& size : entry.at("shape")) {
    const auto n = natural(size);
    require(n.has_value(), "shape must hold whole numbers from 0 to 2^63 - 1");
    info.shape.push_back(*n);
  }
  const json& offsets = entry.at("data_offsets");
  require(offsets.is_array() && offsets.size() == 2 && natural(offsets[0]) && natural(offsets[1]),
          "data_offsets must be two whole numbers");
  info.begin = offsets[0].get<std::uint64_t>();
  info.end = offsets[1].get<std::uint64_t>();
  require(info.begin <= info.end, "data_offsets must not decrease");
  const auto bytes = bytes_of(info.type, info.shape);
  require(bytes && static_cast<std::uint64_t>(*bytes) == info.end - info.begin,
          fmt::format("{} bytes at data_offsets, shape {} of {} takes {}", info.end - info.begin,
                      shape_string(info.shape), safetensors_name(info.type),
                      bytes ? fmt::to_string(*bytes) : "more than 2^63"));
  return info;
}

// The header's JSON, padded with spaces, and the bytes of all tensors.
struct Header {
  std::string text;
  std::uint64_t data_bytes;
};

Header make_header(std::span<const TensorEntry> tensors,
                   const std::map<std::string, std::string>& metadata) {
  ordered_json header = ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::int64_t end = 0;
  std::set<std::string_view> names;
  for (const TensorEntry& tensor : tensors) {
    const auto bytes = bytes_of(stored_type(tensor.type), tensor.shape);
    if (!bytes || !names.insert(tensor.name).second) {
      throw Error(ExitCode::internal, fmt::format("[safetensors] {} {} comes twice or is too large",
                                                  tensor.name, shape_string(tensor.shape)));
    }
    const std::int64_t begin = std::exchange(end, end + *bytes);
    header[tensor.name] = {{"dtype", safetensors_name(stored_type(tensor.type))},
                           {"shape", tensor.shape},
                           {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment, ' ');
  return {.text = std::move(text), .data_bytes = static_cast<std::uint64_t>(end)};
}

// What a rank has of each tensor.
enum class Has { all, a_share };

std::vector<TensorEntry> entries_of(std::span<const NamedTensor> tensors, Has has) {
  std::vector<TensorEntry> entries;
  for (const auto& [name, shape, memory, first] : tensors) {
    entries.push_back({.name = name, .type = memory.type(), .shape = shape});
    const std::int64_t whole = bytes_of(stored_type(memory.type()), shape).value_or(-1);
    const std::int64_t end = first * size_of(memory.type()) + memory.bytes();
    if (first >= 0 && (has == Has::all ? first == 0 && end == whole : end <= whole)) continue;
    throw Error(ExitCode::internal, fmt::format("[safetensors] {} {} is not its memory's {} bytes",
                                                name, shape_string(shape), memory.bytes()));
  }
  return entries;
}

// Host memory for one piece of a tensor of that type.
std::vector<std::byte> piece_memory(StoredType type, std::int64_t count) {
  return std::vector<std::byte>(static_cast<std::size_t>(std::min(count, kPiece) * size_of(type)));
}

// Calls visit(piece, first) for consecutive pieces of a tensor; `first` is the index of the
// piece's first element.
template <class Visit>
void for_each_piece(const Tensor& memory, const Visit& visit) {
  const Tensor flat = memory.view({memory.count()});
  for (std::int64_t first = 0; first < flat.count(); first += kPiece) {
    visit(flat.slice(first, std::min(kPiece, flat.count() - first)), first);
  }
}

}  // namespace

std::int64_t TensorInfo::count() const {
  return static_cast<std::int64_t>(end - begin) / size_of(type);
}

SafetensorsReader::SafetensorsReader(const std::filesystem::path& path, ExitCode code_on_error)
    : file_(path, code_on_error) {
  if (file_.size() < kLengthBytes) {
    throw Error(code(), fmt::format("{}: {} bytes, a safetensors file has at least 10",
                                    path.string(), file_.size()));
  }
  std::array<std::byte, kLengthBytes> length;
  file_.read(0, length);
  const std::uint64_t header_bytes = load_little_endian(length);
  if (header_bytes < 2 || header_bytes > kHeaderLimit ||
      header_bytes > file_.size() - kLengthBytes) {
    throw Error(code(),
                fmt::format("{}: header length {}, must be from 2 to {} in a safetensors "
                            "file of {} bytes",
                            path.string(), header_bytes,
                            std::min(kHeaderLimit, file_.size() - kLengthBytes), file_.size()));
  }
  data_begin_ = kLengthBytes + header_bytes;
  parse_header(header_bytes);
  check_layout();
}

void SafetensorsReader::parse_header(std::uint64_t header_bytes) {
  std::string text(header_bytes, '\0');
  file_.read(kLengthBytes, std::as_writable_bytes(std::span(text)));
  const std::string header_name = fmt::format("{}: safetensors header", path().string());
  if (text.front() != '{') {
    throw Error(code(), fmt::format("{} starts with {}, must start with '{{'", header_name,
                                    quote(text.substr(0, 1))));
  }
  const json header = parse_json(text, header_name, code());
  for (const auto& [name, entry] : header.items()) {
    const std::string where = fmt::format("{}: tensor {}", path().string(), quote(name));
    if (name != "__metadata__") {
      tensors_.push_back(parse_tensor(name, entry, where, code()));
      continue;
    }
    const bool valid =
        entry.is_object() &&
        std::all_of(entry.begin(), entry.end(), [](const json& v) { return v.is_string(); });
    if (!valid)
      throw Error(code(), fmt::format("{}: __metadata__ must map strings to strings", header_name));
    entry.get_to(metadata_);
  }
  std::stable_sort(tensors_.begin(), tensors_.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  for (std::size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

// Tensors must tile the data: each begins where the one before ends, the last at end of file.
void SafetensorsReader::check_layout() const {
  std::uint64_t end = 0;
  for (const TensorInfo& tensor : tensors_) {
    if (tensor.begin != end) {
      throw Error(code(),
                  fmt::format("{}: tensor {} begins at data byte {}, must begin at {} where "
                              "the one before ends",
                              path().string(), quote(tensor.name), tensor.begin, end));
    }
    end = tensor.end;
  }
  if (const std::uint64_t present = file_.size() - data_begin_; end != present) {
    throw Error(code(), fmt::format("{}: {} bytes of tensor data, its header says {}",
                                    path().string(), present, end));
  }
}

const TensorInfo* SafetensorsReader::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

void SafetensorsReader::read(const TensorInfo& tensor, std::uint64_t byte_offset,
                             std::span<std::byte> to) const {
  const std::uint64_t bytes = tensor.end - tensor.begin;
  if (byte_offset > bytes || to.size() > bytes - byte_offset) {
    throw Error(ExitCode::internal,
                fmt::format("[safetensors] {} bytes from {} of tensor {}, it has {}", to.size(),
                            byte_offset, quote(tensor.name), bytes));
  }
  file_.read(data_begin_ + tensor.begin + byte_offset, to);
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::span<const TensorEntry> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : file_(path) {
  for (const auto& [key, value] : metadata) {  // a path need not be text
    if (is_utf8(value)) continue;
    throw Error(ExitCode::storage, fmt::format("{}: metadata \"{}\" is {}, must be UTF-8",
                                               path.string(), key, quote(value)));
  }
  const Header header = make_header(tensors, metadata);
  end_ = kLengthBytes + header.text.size() + header.data_bytes;
  write(store_little_endian(header.text.size()));
  write(std::as_bytes(std::span(header.text)));
}

void SafetensorsWriter::append(std::span<const std::byte> bytes) {
  write(bytes);
}

FileDigest SafetensorsWriter::finish() {
  if (digest_.bytes != end_) {
    throw Error(
        ExitCode::internal,
        fmt::format("[safetensors] {} bytes written, its header says {}", digest_.bytes, end_));
  }
  file_.sync();
  file_.close();
  digest_.xxh3 = checksum_.value();
  return digest_;
}

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  file_.write(bytes);
  checksum_.update(bytes);
  digest_.bytes += bytes.size();
}

PieceReader read_in_place() {
  return [](const Tensor& piece) {
    return std::span(static_cast<const std::byte*>(piece.data()),
                     static_cast<std::size_t>(piece.bytes()));
  };
}

PieceReader download(Backend& backend) {
  return [&backend, host = std::vector<std::byte>()](const Tensor& piece) mutable {
    const auto bytes = static_cast<std::size_t>(piece.bytes());
    if (host.size() < bytes) host.resize(bytes);
    backend.download(host.data(), piece);
    return std::span<const std::byte>(host).first(bytes);
  };
}

SafetensorsWriter write_tensors(const std::filesystem::path& path, const PieceReader& read,
                                std::span<const NamedTensor> tensors,
                                const std::map<std::string, std::string>& metadata) {
  SafetensorsWriter writer(path, entries_of(tensors, Has::all), metadata);
  for (const NamedTensor& tensor : tensors) {
    for_each_piece(tensor.memory,
                   [&](const Tensor& piece, std::int64_t) { writer.append(read(piece)); });
  }
  return writer;
}

FilePart begin_shared_file(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                           const std::map<std::string, std::string>& metadata) {
  const Header header = make_header(entries_of(tensors, Has::a_share), metadata);
  OutputFile file(path);
  Checksum checksum;
  const auto write = [&](std::span<const std::byte> bytes) {
    file.write(bytes);
    checksum.update(bytes);
  };
  write(store_little_endian(header.text.size()));
  write(std::as_bytes(std::span(header.text)));
  const std::uint64_t bytes = file.size();
  file.truncate(bytes + header.data_bytes);
  file.sync();
  file.close();
  return {.begin = 0, .digest = {.bytes = bytes, .xxh3 = checksum.value()}};
}

std::vector<FilePart> write_shares(const std::filesystem::path& path, const PieceReader& read,
                                   std::span<const NamedTensor> tensors,
                                   const std::map<std::string, std::string>& metadata) {
  OutputFile file(path, OutputFile::Mode::update);
  std::vector<FilePart> parts;
  Checksum checksum;  // of the last part
  std::uint64_t tensor_begin =
      kLengthBytes + make_header(entries_of(tensors, Has::a_share), metadata).text.size();
  for (const NamedTensor& tensor : tensors) {
    const std::int64_t size = size_of(tensor.memory.type());
    for_each_piece(tensor.memory, [&](const Tensor& piece, std::int64_t first) {
      const std::span<const std::byte> bytes = read(piece);
      const std::uint64_t at =
          tensor_begin + static_cast<std::uint64_t>((tensor.first + first) * size);
      if (parts.empty() || parts.back().begin + parts.back().digest.bytes != at) {
        checksum = Checksum();
        parts.push_back({.begin = at, .digest = {}});
      }
      file.write_at(at, bytes);
      checksum.update(bytes);
      FileDigest& digest = parts.back().digest;
      digest = {.bytes = digest.bytes + bytes.size(), .xxh3 = checksum.value()};
    });
    tensor_begin += static_cast<std::uint64_t>(
        bytes_of(stored_type(tensor.memory.type()), tensor.shape).value());
  }
  file.sync();
  file.close();
  return parts;
}

std::uint64_t safetensors_bytes(std::span<const NamedTensor> tensors,
                                const std::map<std::string, std::string>& metadata) {
  const Header header = make_header(entries_of(tensors, Has::a_share), metadata);
  return kLengthBytes + header.text.size() + header.data_bytes;
}

FileDigest write_safetensors(const std::filesystem::path& path, Backend& backend,
                             std::span<const NamedTensor> tensors,
                             const std::map<std::string, std::string>& metadata) {
  return write_tensors(path, download(backend), tensors, metadata).finish();
}

void load_tensor(const SafetensorsReader& reader, Backend& backend, const NamedTensor& to) {
  const auto fail = [&](const std::string& message) {
    throw Error(reader.code(), fmt::format("{}: {}", reader.path().string(), message));
  };
  const TensorInfo* info = reader.find(to.name);
  if (info == nullptr) fail(fmt::format("has no tensor {}", quote(to.name)));
  if (info->shape != to.shape) {
    fail(fmt::format("tensor {} is {}, the model's is {}", quote(to.name),
                     shape_string(info->shape), shape_string(to.shape)));
  }
  const DType target = to.memory.type();
  if (!converts(info->type, target)) {
    fail(fmt::format("tensor {} is {}, needed is {}", quote(to.name), safetensors_name(info->type),
                     safetensors_name(stored_type(target))));
  }
  auto stored = piece_memory(info->type, info->count());
  auto converted = piece_memory(stored_type(target), info->count());
  for_each_piece(to.memory, [&](const Tensor& piece, std::int64_t first) {
    const auto from =
        std::span(stored).first(static_cast<std::size_t>(piece.count() * size_of(info->type)));
    const std::int64_t element = to.first + first;
    reader.read(*info, static_cast<std::uint64_t>(element * size_of(info->type)), from);
    convert_elements(info->type, from, target, converted);
    backend.upload(piece, converted.data());
  });
}

std::string shape_string(std::span<const std::int64_t> shape) {
  return fmt::format("({})", fmt::join(shape, ", "));
}

}  // namespace lathe
