#include "lathe/shard_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include "shard_format.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

std::array<std::byte, ShardHeader::kBytes> header_bytes(std::int64_t tokens) {
  const ShardHeader header{.tokens = static_cast<std::int32_t>(tokens)};
  std::array<std::byte, ShardHeader::kBytes> bytes{};
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

}  // namespace

ShardWriter::ShardWriter(Spec spec) : spec_(std::move(spec)) {}

ShardWriter::~ShardWriter() {
  if (file_) discard();
}

fs::path ShardWriter::path() const {
  return spec_.folder / fmt::format("{}_{:06}.bin", spec_.prefix, spec_.first_number + shards_);
}

fs::path ShardWriter::partial_path() const {
  return spec_.folder / fmt::format(".{}.partial", path().filename().string());
}

void ShardWriter::open() {
  file_.emplace(partial_path());
  file_->write(header_bytes(0));
  open_tokens_ = 0;
}

void ShardWriter::commit() {
  file_->write_at(0, header_bytes(open_tokens_));
  file_->sync();
  file_->close();
  std::error_code error;
  fs::rename(partial_path(), path(), error);
  if (error) {
    throw Error(ExitCode::storage,
                fmt::format("{}: cannot be written: {}", path().string(), error.message()));
  }
  sync_folder(spec_.folder);
  file_.reset();
  ++shards_;
}

void ShardWriter::discard() {
  file_.reset();
  std::error_code ignored;
  fs::remove(partial_path(), ignored);
}

void ShardWriter::append(std::span<const std::uint16_t> tokens) {
  while (!tokens.empty()) {
    if (file_ && open_tokens_ == spec_.shard_tokens) commit();
    if (!file_) open();
    const auto room = static_cast<std::size_t>(spec_.shard_tokens - open_tokens_);
    const auto part = tokens.first(std::min(room, tokens.size()));
    file_->write(std::as_bytes(part));
    open_tokens_ += std::ssize(part);
    tokens_ += std::ssize(part);
    tokens = tokens.subspan(part.size());
  }
}

void ShardWriter::finish() {
  if (file_) commit();
}

void ShardWriter::move_first(std::int64_t count, ShardWriter& to) {
  constexpr std::int64_t kPiece = std::int64_t{1} << 20;
  const InputFile written(partial_path(), ExitCode::storage);
  std::vector<std::uint16_t> tokens;
  const auto read = [&](std::int64_t begin, std::int64_t end) {
    tokens.resize(static_cast<std::size_t>(end - begin));
    written.read(static_cast<std::uint64_t>(ShardHeader::kBytes + 2 * begin),
                 std::as_writable_bytes(std::span(tokens)));
  };
  for (std::int64_t begin = 0; begin < count; begin += kPiece) {
    read(begin, std::min(begin + kPiece, count));
    to.append(tokens);
  }
  read(count, open_tokens_);
  tokens_ -= open_tokens_;
  discard();
  append(tokens);
}

}  // namespace lathe
