#include "lathe/adamw.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "lathe/arena.h"

namespace lathe {
namespace {

struct OptimizerMemory {
  Tensor m, v, master, sums, square_sums;
};

OptimizerMemory lay_out(Arena& arena, std::int64_t count, DType precision, std::int64_t pieces) {
  OptimizerMemory memory;
  memory.m = arena.take(DType::fp32, {count});
  memory.v = arena.take(DType::fp32, {count});
  if (precision != DType::fp32) memory.master = arena.take(DType::fp32, {count});
  memory.sums = arena.take(DType::fp32, {2});
  if (pieces != 1) memory.square_sums = arena.take(DType::fp32, {pieces});
  return memory;
}

std::int64_t bytes_for(std::int64_t count, DType precision, std::int64_t pieces) {
  Arena measure;
  lay_out(measure, count, precision, pieces);
  return measure.bytes();
}

// Neighbouring decayed tensors become one range; what lies between them is padding, always zero.
std::vector<ElementRange> decayed_ranges(const std::vector<ParameterSpec>& specs) {
  std::vector<ElementRange> ranges;
  bool joins = false;
  for (const ParameterSpec& spec : specs) {
    const std::int64_t end = spec.offset + spec.padded_count();
    if (spec.decays && joins) {
      ranges.back().end = end;
    } else if (spec.decays) {
      ranges.push_back({.begin = spec.offset, .end = end});
    }
    joins = spec.decays;
  }
  return ranges;
}

}  // namespace

AdamW::AdamW(Backend& backend, const std::vector<ParameterSpec>& specs, const Tensor& parameters,
             const Tensor& gradients, const AdamWOptions& options, Communicator& communicator)
    : backend_(backend),
      communicator_(communicator),
      parameters_(parameters),
      gradients_(gradients),
      options_(options),
      buckets_(make_buckets(specs, communicator.size())),
      owned_(parts_of(buckets_, communicator.rank())),
      decayed_(decayed_ranges(specs)) {
  make_pieces();
  const auto pieces = static_cast<std::int64_t>(pieces_.size());
  const std::int64_t count = count_of(owned_);
  memory_ = backend.allocate(bytes_for(count, parameters.type(), pieces));
  Arena arena(memory_.get());
  const OptimizerMemory memory = lay_out(arena, count, parameters.type(), pieces);
  m_ = memory.m;
  v_ = memory.v;
  master_ = memory.master;
  sums_ = memory.sums;
  square_sums_ = memory.square_sums;
}

void AdamW::make_pieces() {
  std::int64_t at = 0;
  for (const ElementRange& range : owned_) {
    Piece& piece = pieces_.emplace_back(Piece{.range = range, .at = at, .decayed = {}});
    for (const ElementRange& decayed : decayed_) {
      const ElementRange here = {std::max(decayed.begin, range.begin),
                                 std::min(decayed.end, range.end)};
      if (here.begin >= here.end) continue;
      piece.decayed.push_back({here.begin - range.begin, here.end - range.begin});
    }
    at += range.end - range.begin;
  }
}

std::int64_t AdamW::memory_bytes(std::int64_t parameter_memory_count, DType precision) {
  return bytes_for(parameter_memory_count, precision, /*pieces=*/1);
}

void AdamW::publish_master() {
  if (master_.empty()) return;
  update_pieces([this](const Piece& piece) {
    backend_.run(Convert{.out = piece.of(parameters_), .x = piece.of_owned(master_)});
  });
}

void AdamW::reduce_gradients(int block) {
  if (communicator_.is_alone()) return;
  const auto bucket = std::ranges::find(buckets_, block, &Bucket::block);
  if (bucket == buckets_.end()) return;  // the final LayerNorm's, which goes with the last block's
  communicator_.start_reduce_scatter(gradients_, bucket->parts);
}

// In the order in which the backward pass is through with them.
void AdamW::reduce_gradients() {
  for (auto bucket = buckets_.rbegin(); bucket != buckets_.rend(); ++bucket) {
    reduce_gradients(bucket->block);
  }
}

// Begins to send what is done: the buckets, from `next` on, whose own parts end before `end`.
void AdamW::gather_parameters(std::size_t& next, std::int64_t end) {
  if (communicator_.is_alone()) return;
  const auto own = static_cast<std::size_t>(communicator_.rank());
  for (; next < buckets_.size() && buckets_[next].parts[own].end <= end; ++next) {
    communicator_.start_all_gather(parameters_, buckets_[next].parts);
  }
}

void AdamW::update_pieces(const std::function<void(const Piece&)>& update) {
  std::size_t next = 0;
  for (const Piece& piece : pieces_) {
    update(piece);
    gather_parameters(next, piece.range.end);
  }
  gather_parameters(next, buckets_.back().range.end);
  communicator_.wait();
}

// Of the gradients that this rank updates with.
void AdamW::sum_squares() {
  const Tensor total = sums_.slice(0, 1);
  if (pieces_.size() == 1) {
    return backend_.run(SumOfSquares{.out = total, .x = pieces_.front().of(gradients_)});
  }
  if (pieces_.empty()) return backend_.run(Fill{.out = total, .value = 0});
  std::int64_t index = 0;
  for (const Piece& piece : pieces_) {
    backend_.run(SumOfSquares{.out = square_sums_.slice(index++, 1), .x = piece.of(gradients_)});
  }
  backend_.run(Sum{.out = total, .x = square_sums_, .accumulate = false});
}

void AdamW::update(std::int64_t step, double learning_rate, const Tensor& loss_sum,
                   const UpdateLimits& limits) {
  limits_ = limits;
  communicator_.wait();  // for the gradients
  const Tensor square_sum = sums_.slice(0, 1), own_loss_sum = sums_.slice(1, 1);
  sum_squares();
  backend_.run(Sum{.out = own_loss_sum, .x = loss_sum, .accumulate = false});
  communicator_.sum(sums_);
  update_pieces([&](const Piece& piece) {
    backend_.run(AdamWUpdate{.parameter = piece.of(parameters_),
                             .master = piece.of_owned(master_),
                             .m = piece.of_owned(m_),
                             .v = piece.of_owned(v_),
                             .gradient = piece.of(gradients_),
                             .grad_square_sum = square_sum,
                             .loss_sum = own_loss_sum,
                             .decayed = piece.decayed,
                             .limits = limits,
                             .step = step,
                             .learning_rate = learning_rate,
                             .beta1 = options_.beta1,
                             .beta2 = options_.beta2,
                             .eps = options_.eps,
                             .weight_decay = options_.weight_decay,
                             .grad_clip = options_.grad_clip});
  });
}

AdamW::Sums AdamW::sums() const {
  std::array<float, 2> sums = {};
  backend_.download(sums.data(), sums_);
  return {.gradient_norm = std::sqrt(sums[0]),
          .loss = sums[1],
          .updated = is_within(limits_, sums[1], sums[0])};
}

}  // namespace lathe
