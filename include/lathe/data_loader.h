// Batches in an order that is a pure function of (seed, epoch, sequence), whatever the size of a
// batch: the loader's whole state is the position of the next sequence, and a run resumed there,
// also with other batches, neither repeats nor skips one.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <span>
#include <stop_token>
#include <thread>
#include <vector>

#include "lathe/token_files.h"

namespace lathe {

// The next sequence to be taken: number `sequence` in the order of its epoch.
struct DataPosition {
  std::uint64_t epoch = 0, sequence = 0;
  bool operator==(const DataPosition&) const = default;
};

struct DataOrder {
  std::uint64_t seed;
  std::int64_t count;  // sequences in an epoch
  bool shuffle;        // false: file order in every epoch
};

// Which sequence in file order is taken at a position. Shuffled, each epoch is a permutation of its
// own; epochs count modulo 2^32.
std::int64_t sequence_at(const DataOrder& order, DataPosition position);

struct DataLoaderOptions {
  std::int64_t seq_len;  // T
  std::uint64_t seed;
  bool shuffle;
  std::int64_t rows_per_read;  // B
  int rank = 0, ranks = 1;     // all together take `ranks` times B rows, rank after rank
};

class DataLoader {
 public:
  // Throws Error(data) if `files` have no sequence, or `start` lies outside an epoch. Keeps what it
  // needs of `files`.
  DataLoader(const TokenFiles& files, const DataLoaderOptions& options, DataPosition start);

  // The next batch of this rank: tokens (B, T) and targets (B, T), which are the tokens that
  // follow. After an epoch's last sequence comes the next epoch's first, in the same batch. Throws
  // the Error(data) of TokenFiles::read_sequence, and again on every later call.
  void next(std::span<std::int32_t> tokens, std::span<std::int32_t> targets);

  // Behind what next() has given out on all ranks, which is less than what has been read.
  DataPosition position() const { return position_; }

  // Numbers in file order of the sequences that the last next() has given out.
  const std::vector<std::int64_t>& sequences() const { return sequences_; }

  std::int64_t sequences_per_epoch() const { return order_.count; }

 private:
  struct Batch {
    std::vector<std::int32_t> tokens, targets;
    std::vector<std::int64_t> sequences;
    DataPosition end;
  };

  Batch empty_batch() const;
  void read_ahead(const std::stop_token& stop, DataPosition start);
  void fill(Batch& batch, DataPosition start) const;
  DataPosition after(DataPosition position, std::int64_t sequences) const;

  TokenFiles files_;
  SequenceTable table_;
  DataLoaderOptions options_;
  DataOrder order_;
  DataPosition position_;
  std::vector<std::int64_t> sequences_;

  std::mutex mutex_;  // guards the three below
  std::condition_variable_any changed_;
  Batch ready_;
  bool is_ready_ = false;
  std::exception_ptr failure_;  // what ended the reader; comes after the batch that is ready

  std::jthread reader_;  // last: it stops before what it uses is gone
};

}  // namespace lathe
