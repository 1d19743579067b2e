// Every operand is checked here, once for all devices, so that kernels may trust what they get. A
// failed check is a defect of the caller: exit code 1, naming operation, operand and both shapes.
#include "lathe/ops.h"

#include <fmt/format.h>

#include <cmath>

#include "lathe/error.h"

namespace lathe {
namespace {

using Shape = std::initializer_list<std::int64_t>;

// Checks the operands of one operation whose compute type is that of a chosen operand.
class Checker {
 public:
  Checker(const char* op, DType compute) : op_(op), compute_(compute) {
    if (compute != DType::fp32 && compute != DType::bf16) {
      fail(fmt::format("compute type is {}, expected fp32 or bf16", to_string(compute)));
    }
  }

  void compute(const char* name, const Tensor& t, Shape shape) const {
    typed(name, t, compute_, shape);
  }
  void fp32(const char* name, const Tensor& t, Shape shape) const {
    typed(name, t, DType::fp32, shape);
  }
  void int32(const char* name, const Tensor& t, Shape shape) const {
    typed(name, t, DType::int32, shape);
  }
  void optional_compute(const char* name, const Tensor& t, Shape shape) const {
    if (!t.empty()) compute(name, t, shape);
  }
  void optional_fp32(const char* name, const Tensor& t, Shape shape) const {
    if (!t.empty()) fp32(name, t, shape);
  }
  void rank(const char* name, const Tensor& t, int expected) const {
    if (t.empty() || t.rank() != expected) {
      fail(fmt::format("{} is {}, expected {} dimensions", name, describe(t), expected));
    }
  }
  void that(bool ok, const char* rule) const {
    if (!ok) fail(rule);
  }

 private:
  void typed(const char* name, const Tensor& t, DType type, Shape shape) const {
    const Tensor expected(nullptr, type, shape);
    bool same = !t.empty() && t.type() == type && t.rank() == expected.rank();
    for (int i = 0; same && i < t.rank(); ++i) same = t.size(i) == expected.size(i);
    if (same) return;
    fail(fmt::format("{} is {}, expected {} {}", name, describe(t), to_string(type),
                     expected.shape_string()));
  }
  static std::string describe(const Tensor& t) {
    return t.empty() ? "absent" : to_string(t.type()) + " " + t.shape_string();
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ExitCode::internal, fmt::format("[{}] {}", op_, what));
  }

  const char* op_;
  DType compute_;
};

double total_bytes(std::initializer_list<Tensor> tensors) {
  double bytes = 0;
  for (const Tensor& t : tensors) bytes += t.empty() ? 0.0 : static_cast<double>(t.bytes());
  return bytes;
}

double elements(const Tensor& t) {
  return static_cast<double>(t.count());
}

}  // namespace

void check(const EmbeddingForward& op) {
  const Checker is(op.kName, op.out.type());
  is.rank("out", op.out, 3);
  is.rank("token_table", op.token_table, 2);
  is.rank("position_table", op.position_table, 2);
  const auto B = op.out.size(0), T = op.out.size(1), C = op.out.size(2);
  is.int32("tokens", op.tokens, {B, T});
  is.compute("token_table", op.token_table, {op.token_table.size(0), C});
  is.compute("position_table", op.position_table, {op.position_table.size(0), C});
  is.that(op.position_table.size(0) >= T, "position_table has fewer rows than out has positions");
}

void check(const EmbeddingBackward& op) {
  const Checker is(op.kName, op.d_out.type());
  is.rank("d_out", op.d_out, 3);
  is.rank("d_token_table", op.d_token_table, 2);
  is.rank("d_position_table", op.d_position_table, 2);
  const auto B = op.d_out.size(0), T = op.d_out.size(1), C = op.d_out.size(2);
  is.int32("tokens", op.tokens, {B, T});
  is.fp32("d_token_table", op.d_token_table, {op.d_token_table.size(0), C});
  is.fp32("d_position_table", op.d_position_table, {op.d_position_table.size(0), C});
  is.that(op.d_position_table.size(0) >= T, "d_position_table has fewer rows than positions");
}

void check(const LayerNormForward& op) {
  const Checker is(op.kName, op.x.type());
  is.rank("x", op.x, 2);
  const auto N = op.x.size(0), C = op.x.size(1);
  is.compute("out", op.out, {N, C});
  is.fp32("mean", op.mean, {N});
  is.fp32("rstd", op.rstd, {N});
  is.compute("gain", op.gain, {C});
  is.compute("bias", op.bias, {C});
}

void check(const LayerNormBackward& op) {
  const Checker is(op.kName, op.x.type());
  is.rank("x", op.x, 2);
  const auto N = op.x.size(0), C = op.x.size(1);
  is.compute("d_x", op.d_x, {N, C});
  is.fp32("d_gain", op.d_gain, {C});
  is.fp32("d_bias", op.d_bias, {C});
  is.compute("d_out", op.d_out, {N, C});
  is.optional_compute("d_residual", op.d_residual, {N, C});
  is.compute("gain", op.gain, {C});
  is.fp32("mean", op.mean, {N});
  is.fp32("rstd", op.rstd, {N});
}

void check(const LinearForward& op) {
  const Checker is(op.kName, op.x.type());
  is.rank("x", op.x, 2);
  is.rank("weight", op.weight, 2);
  const auto N = op.x.size(0), I = op.x.size(1), O = op.weight.size(0);
  is.compute("weight", op.weight, {O, I});
  is.compute("out", op.out, {N, O});
  is.optional_compute("pre_gelu", op.pre_gelu, {N, O});
  is.optional_compute("bias", op.bias, {O});
  is.optional_compute("residual", op.residual, {N, O});
  is.that(op.pre_gelu.empty() || op.residual.empty(), "pre_gelu and residual exclude each other");
}

void check(const LinearBackward& op) {
  const Checker is(op.kName, op.x.type());
  is.rank("x", op.x, 2);
  is.rank("weight", op.weight, 2);
  const auto N = op.x.size(0), I = op.x.size(1), O = op.weight.size(0);
  is.compute("weight", op.weight, {O, I});
  is.compute("d_out", op.d_out, {N, O});
  is.optional_compute("d_x", op.d_x, {N, I});
  is.fp32("d_weight", op.d_weight, {O, I});
  is.optional_fp32("d_bias", op.d_bias, {O});
  is.optional_compute("pre_gelu", op.pre_gelu, {N, I});
}

void check(const AttentionForward& op) {
  const Checker is(op.kName, op.qkv.type());
  is.rank("out", op.out, 3);
  is.rank("log_sum_exp", op.log_sum_exp, 3);
  const auto B = op.out.size(0), T = op.out.size(1), C = op.out.size(2);
  is.compute("out", op.out, {B, T, C});
  is.compute("qkv", op.qkv, {B, T, 3 * C});
  is.fp32("log_sum_exp", op.log_sum_exp, {B, op.log_sum_exp.size(1), T});
  is.that(C % op.log_sum_exp.size(1) == 0, "heads do not divide channels");
}

void check(const AttentionBackward& op) {
  const Checker is(op.kName, op.qkv.type());
  is.rank("out", op.out, 3);
  is.rank("log_sum_exp", op.log_sum_exp, 3);
  const auto B = op.out.size(0), T = op.out.size(1), C = op.out.size(2);
  is.compute("out", op.out, {B, T, C});
  is.compute("d_out", op.d_out, {B, T, C});
  is.compute("qkv", op.qkv, {B, T, 3 * C});
  is.compute("d_qkv", op.d_qkv, {B, T, 3 * C});
  is.fp32("log_sum_exp", op.log_sum_exp, {B, op.log_sum_exp.size(1), T});
  is.that(C % op.log_sum_exp.size(1) == 0, "heads do not divide channels");
}

void check(const AttentionCached& op) {
  const Checker is(op.kName, op.qkv.type());
  is.rank("out", op.out, 3);
  is.rank("keys", op.keys, 4);
  const auto B = op.out.size(0), T = op.out.size(1), C = op.out.size(2);
  const auto H = op.keys.size(1), S = op.keys.size(2);
  is.that(H >= 1 && C % H == 0, "heads do not divide channels");
  is.compute("out", op.out, {B, T, C});
  is.compute("keys", op.keys, {B, H, S, C / H});
  is.compute("values", op.values, {B, H, S, C / H});
  is.compute("qkv", op.qkv, {B, T, 3 * C});
  is.that(op.begin >= 0 && op.begin + T <= S, "the cache has no rows for the new positions");
}

void check(const CrossEntropy& op) {
  const Checker is(op.kName, op.logits.type());
  is.rank("logits", op.logits, 2);
  const auto N = op.logits.size(0), Vp = op.logits.size(1);
  is.fp32("losses", op.losses, {N});
  is.optional_compute("d_logits", op.d_logits, {N, Vp});
  is.int32("targets", op.targets, {N});
  is.that(op.vocab >= 1 && op.vocab <= Vp, "vocab is not within the columns of logits");
}

void check(const AdamWUpdate& op) {
  const Checker is(op.kName, op.parameter.type());
  is.rank("parameter", op.parameter, 1);
  const auto P = op.parameter.size(0);
  is.fp32("m", op.m, {P});
  is.fp32("v", op.v, {P});
  is.fp32("gradient", op.gradient, {P});
  is.fp32("grad_square_sum", op.grad_square_sum, {1});
  is.fp32("loss_sum", op.loss_sum, {1});
  if (op.parameter.type() == DType::bf16) {
    is.fp32("master", op.master, {P});
  } else {
    is.that(op.master.empty(), "an fp32 parameter is its own master");
  }
  std::int64_t end = 0;
  for (const ElementRange& range : op.decayed) {
    is.that(range.begin >= end && range.end > range.begin, "decayed ranges are not sorted");
    end = range.end;
  }
  is.that(end <= P, "decayed ranges reach past the parameters");
  is.that(op.step >= 1, "step counts from 1");
}

void check(const SumOfSquares& op) {
  const Checker is(op.kName, op.x.type());
  is.rank("x", op.x, 1);
  is.fp32("x", op.x, {op.x.size(0)});
  is.fp32("out", op.out, {1});
}

void check(const Sum& op) {
  const Checker is(op.kName, op.x.type());
  is.rank("x", op.x, 1);
  is.fp32("x", op.x, {op.x.size(0)});
  is.fp32("out", op.out, {1});
}

void check(const Convert& op) {
  const Checker is(op.kName, op.out.type());
  is.rank("x", op.x, 1);
  is.compute("out", op.out, {op.x.size(0)});
  is.that(op.x.type() != DType::int32, "x is int32, expected fp32 or bf16");
}

void check(const Fill& op) {
  const Checker is(op.kName, op.out.type());
  is.rank("out", op.out, 1);
}

AdamWCoefficients coefficients(const AdamWUpdate& op) {
  const auto step = static_cast<double>(op.step);
  const double correction1 = 1 - std::pow(op.beta1, step);
  const double correction2 = 1 - std::pow(op.beta2, step);
  return {.beta1 = static_cast<float>(op.beta1),
          .beta2 = static_cast<float>(op.beta2),
          .one_minus_beta1 = static_cast<float>(1 - op.beta1),
          .one_minus_beta2 = static_cast<float>(1 - op.beta2),
          .rate = static_cast<float>(op.learning_rate / correction1),
          .root_correction = static_cast<float>(1 / std::sqrt(correction2)),
          .eps = static_cast<float>(op.eps),
          .decay = static_cast<float>(op.learning_rate * op.weight_decay)};
}

Cost cost(const EmbeddingForward& op) {
  return {.flops = elements(op.out), .bytes = 2 * total_bytes({op.out}) + total_bytes({op.tokens})};
}

Cost cost(const EmbeddingBackward& op) {
  return {.flops = 2 * elements(op.d_out),
          .bytes = total_bytes({op.d_out, op.d_position_table}) + 8 * elements(op.d_out)};
}

Cost cost(const LayerNormForward& op) {
  return {.flops = 8 * elements(op.x), .bytes = total_bytes({op.out, op.x})};
}

Cost cost(const LayerNormBackward& op) {
  return {.flops = 14 * elements(op.x),
          .bytes = total_bytes({op.d_x, op.d_out, op.d_residual, op.x})};
}

Cost cost(const LinearForward& op) {
  return {.flops = 2 * elements(op.x) * static_cast<double>(op.weight.size(0)),
          .bytes = total_bytes({op.out, op.pre_gelu, op.x, op.weight, op.bias, op.residual})};
}

Cost cost(const LinearBackward& op) {
  const double product = 2 * elements(op.x) * static_cast<double>(op.weight.size(0));
  const double read_again = op.accumulate ? total_bytes({op.d_weight, op.d_bias}) : 0;
  return {.flops = op.d_x.empty() ? product : 2 * product,
          .bytes = read_again + total_bytes({op.d_x, op.d_weight, op.d_bias, op.d_out, op.x,
                                             op.weight, op.pre_gelu})};
}

// Two products of T x T/2 x C forward, five backward.
Cost cost(const AttentionForward& op) {
  return {.flops = 2 * elements(op.out) * static_cast<double>(op.out.size(1)),
          .bytes = total_bytes({op.out, op.log_sum_exp, op.qkv})};
}

Cost cost(const AttentionBackward& op) {
  return {.flops = 5 * elements(op.out) * static_cast<double>(op.out.size(1)),
          .bytes = total_bytes({op.d_qkv, op.d_out, op.qkv, op.out, op.log_sum_exp})};
}

// Two products of T x (begin + T/2) x C; of the cache what is read and written.
Cost cost(const AttentionCached& op) {
  const auto begin = static_cast<double>(op.begin), T = static_cast<double>(op.out.size(1));
  const double rows = (begin + T) / static_cast<double>(op.keys.size(2));
  return {.flops = 4 * elements(op.out) * (begin + T / 2),
          .bytes = total_bytes({op.out, op.qkv}) + rows * total_bytes({op.keys, op.values})};
}

Cost cost(const CrossEntropy& op) {
  return {.flops = 5 * elements(op.logits), .bytes = total_bytes({op.d_logits, op.logits})};
}

Cost cost(const AdamWUpdate& op) {
  const double read_and_written = total_bytes({op.parameter, op.master, op.m, op.v});
  return {.flops = 15 * elements(op.m), .bytes = 2 * read_and_written + total_bytes({op.gradient})};
}

Cost cost(const SumOfSquares& op) {
  return {.flops = 2 * elements(op.x), .bytes = total_bytes({op.x})};
}

Cost cost(const Sum& op) {
  return {.flops = elements(op.x), .bytes = total_bytes({op.x})};
}

Cost cost(const Convert& op) {
  return {.flops = 0, .bytes = total_bytes({op.out, op.x})};
}

Cost cost(const Fill& op) {
  return {.flops = 0, .bytes = total_bytes({op.out})};
}

}  // namespace lathe
