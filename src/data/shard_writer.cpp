#include "lathe/shard_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include "lathe/dataset.h"
#include "shard_format.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLastNumber = 999'999;  // of six digits

std::array<std::byte, ShardHeader::kBytes> header_bytes(std::int64_t tokens) {
  const ShardHeader header{.tokens = static_cast<std::int32_t>(tokens)};
  std::array<std::byte, ShardHeader::kBytes> bytes{};
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

// Calls visit(tokens) for the tokens of a shard from `begin` to before `end`, piece by piece.
template <class Visit>
void for_each_piece(const InputFile& shard, std::int64_t begin, std::int64_t end,
                    const Visit& visit) {
  constexpr std::int64_t kPiece = std::int64_t{1} << 20;
  std::vector<std::uint16_t> tokens;
  for (; begin < end; begin += kPiece) {
    tokens.resize(static_cast<std::size_t>(std::min(kPiece, end - begin)));
    shard.read(static_cast<std::uint64_t>(ShardHeader::kBytes + 2 * begin),
               std::as_writable_bytes(std::span(tokens)));
    visit(tokens);
  }
}

}  // namespace

std::string shard_name(const std::string& prefix, std::int64_t number) {
  return fmt::format("{}_{:06}.bin", prefix, number);
}

bool is_shard_name(const std::string& name) {
  constexpr std::size_t kDigits = 6;
  for (const std::string prefix : {kTrainPrefix, kValPrefix}) {
    if (name.size() != shard_name(prefix, 0).size() || !name.starts_with(prefix + "_")) continue;
    const std::string digits = name.substr(prefix.size() + 1, kDigits);
    const bool has_number = digits.find_first_not_of("0123456789") == digits.npos;
    if (has_number && name.ends_with(".bin")) return true;
  }
  return false;
}

ShardWriter::ShardWriter(Spec spec) : spec_(std::move(spec)) {}

fs::path ShardWriter::path() const {
  return spec_.folder / shard_name(spec_.prefix, spec_.first_number + shards_ - 1);
}

void ShardWriter::open() {
  if (spec_.first_number + shards_ > kLastNumber) {
    throw Error(ExitCode::usage, fmt::format("--shard-tokens {}: makes more than {} shards, whose "
                                             "names would not sort; give more",
                                             spec_.shard_tokens, kLastNumber));
  }
  ++shards_;
  file_.emplace(path());
  file_->write(header_bytes(0));
  open_tokens_ = 0;
}

void ShardWriter::close() {
  file_->write_at(0, header_bytes(open_tokens_));
  file_->sync();
  file_->close();
  file_.reset();
}

void ShardWriter::append(std::span<const std::uint16_t> tokens) {
  while (!tokens.empty()) {
    if (file_ && open_tokens_ == spec_.shard_tokens) close();
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
  if (file_) close();
}

void ShardWriter::move_first(std::int64_t count, ShardWriter& to) {
  const fs::path whole = path().string() + ".whole";
  file_.reset();
  std::error_code error;
  fs::rename(path(), whole, error);
  if (error) {
    throw Error(ExitCode::storage,
                fmt::format("{}: cannot be renamed: {}", path().string(), error.message()));
  }
  const std::int64_t all = std::exchange(tokens_, 0);
  shards_ = 0;
  {
    const InputFile shard(whole, ExitCode::storage);
    for_each_piece(shard, 0, count, [&](auto& tokens) { to.append(tokens); });
    for_each_piece(shard, count, all, [&](auto& tokens) { append(tokens); });
  }
  fs::remove(whole, error);
}

}  // namespace lathe
