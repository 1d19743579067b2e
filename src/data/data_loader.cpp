// One thread reads a batch while the one before it waits to be taken and the one before that is
// trained on. position_ is the taker's alone; the reader keeps its own.
#include "lathe/data_loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "lathe/error.h"
#include "lathe/random.h"

namespace lathe {

std::int64_t sequence_at(const DataOrder& order, DataPosition position) {
  if (!order.shuffle) return static_cast<std::int64_t>(position.sequence);
  const RandomKey key{.seed = order.seed,
                      .stream = RandomStream::data_order,
                      .substream = static_cast<std::uint32_t>(position.epoch)};
  const auto count = static_cast<std::uint64_t>(order.count);
  return static_cast<std::int64_t>(permute(key, position.sequence, count));
}

DataLoader::DataLoader(const TokenFiles& files, const DataLoaderOptions& options,
                       DataPosition start)
    : files_(files),
      table_(files, options.seq_len),
      options_(options),
      order_{.seed = options.seed, .count = table_.count(), .shuffle = options.shuffle},
      position_(start) {
  files.require_sequences(options.seq_len);
  if (start.sequence >= static_cast<std::uint64_t>(order_.count)) {
    throw Error(
        ExitCode::data,
        fmt::format("cannot go on at sequence {} of an epoch: the data have {} sequences of "
                    "{} tokens; are they those of the first run?",
                    start.sequence, order_.count, options.seq_len));
  }
  ready_ = empty_batch();
  reader_ = std::jthread([this, start](const std::stop_token& stop) { read_ahead(stop, start); });
}

void DataLoader::next(std::span<std::int32_t> tokens, std::span<std::int32_t> targets) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return is_ready_ || failure_; });
  if (!is_ready_) std::rethrow_exception(failure_);
  if (tokens.size() != ready_.tokens.size() || targets.size() != ready_.targets.size()) {
    throw Error(ExitCode::internal,
                fmt::format("a batch of {} tokens does not fit {} tokens and {} targets",
                            ready_.tokens.size(), tokens.size(), targets.size()));
  }
  std::ranges::copy(ready_.tokens, tokens.begin());
  std::ranges::copy(ready_.targets, targets.begin());
  position_ = ready_.end;
  sequences_ = ready_.sequences;
  is_ready_ = false;
  lock.unlock();
  changed_.notify_one();
}

DataLoader::Batch DataLoader::empty_batch() const {
  const auto size = static_cast<std::size_t>(options_.rows_per_read * options_.seq_len);
  return {.tokens = std::vector<std::int32_t>(size),
          .targets = std::vector<std::int32_t>(size),
          .sequences = {},
          .end = {}};
}

void DataLoader::read_ahead(const std::stop_token& stop, DataPosition start) {
  try {
    Batch batch = empty_batch();
    while (!stop.stop_requested()) {
      fill(batch, start);
      start = batch.end;
      std::unique_lock lock(mutex_);
      if (!changed_.wait(lock, stop, [this] { return !is_ready_; })) return;
      std::swap(ready_, batch);
      is_ready_ = true;
      lock.unlock();
      changed_.notify_one();
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    failure_ = std::current_exception();
    changed_.notify_one();
  }
}

void DataLoader::fill(Batch& batch, DataPosition start) const {
  const auto T = static_cast<std::size_t>(options_.seq_len);
  std::vector<std::int32_t> sequence(T + 1);
  const std::int64_t rows = options_.rows_per_read;
  batch.end = after(start, rows * options_.ranks);
  batch.sequences.clear();
  for (std::int64_t row = 0; row < rows; ++row) {
    const DataPosition position = after(start, rows * options_.rank + row);
    const std::int64_t number = sequence_at(order_, position);
    batch.sequences.push_back(number);
    table_.read(files_, number, sequence);
    const std::size_t at = static_cast<std::size_t>(row) * T;
    std::copy_n(sequence.begin(), T, batch.tokens.begin() + static_cast<std::ptrdiff_t>(at));
    std::copy_n(sequence.begin() + 1, T, batch.targets.begin() + static_cast<std::ptrdiff_t>(at));
  }
}

DataPosition DataLoader::after(DataPosition position, std::int64_t sequences) const {
  const auto count = static_cast<std::uint64_t>(order_.count);
  const std::uint64_t sequence = position.sequence + static_cast<std::uint64_t>(sequences);
  return {.epoch = position.epoch + sequence / count, .sequence = sequence % count};
}

}  // namespace lathe
