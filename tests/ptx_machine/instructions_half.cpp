// Arithmetic on bf16 and f16, one or two to a register.
#include "half.h"
#include "instruction_table.h"
#include "warp.h"

namespace lathe::ptx {
namespace {

struct Add {
  double operator()(double a, double b) const { return round_to_odd(a, b); }
};
struct Subtract {
  double operator()(double a, double b) const { return round_to_odd(a, -b); }
};
struct Multiply {
  double operator()(double a, double b) const { return a * b; }
};
struct MultiplyAdd {
  double operator()(double a, double b, double c) const { return round_to_odd(a * b, c); }
};
struct MultiplyAddRelu {
  double operator()(double a, double b, double c) const {
    const double value = round_to_odd(a * b, c);
    return value < 0 ? 0 : value;
  }
};
struct Min {
  double operator()(double a, double b) const {
    if (std::isnan(a)) return b;
    return b < a || (a == b && std::signbit(b)) ? b : a;
  }
};
struct Max {
  double operator()(double a, double b) const { return -Min{}(-a, -b); }
};
struct MinNan {
  double operator()(double a, double b) const {
    return std::isnan(a) || std::isnan(b) ? NAN : Min{}(a, b);
  }
};
struct MaxNan {
  double operator()(double a, double b) const { return -MinNan{}(-a, -b); }
};
struct Exp2 {
  double operator()(double a) const { return std::exp2(a); }
};
struct Tanh {
  double operator()(double a) const { return std::tanh(a); }
};

// The operation on each of the Count values in a register.
template <class Format, int Count, class Operation>
struct OnHalves {
  template <class... Values>
  std::uint32_t operator()(Values... values) const {
    std::uint32_t out = 0;
    for (int i = 0; i < Count; ++i) {
      const auto part = [i](std::uint32_t bits) {
        return from_half<Format>(static_cast<std::uint16_t>(bits >> (16 * i)));
      };
      out |= std::uint32_t{to_half<Format>(Operation{}(part(values)...))} << (16 * i);
    }
    return out;
  }
};

// Negation and absolute value touch the sign bit only.
template <int Count>
struct Negate {
  std::uint32_t operator()(std::uint32_t a) const {
    return a ^ (Count == 2 ? 0x80008000u : 0x8000u);
  }
};
template <int Count>
struct Absolute {
  std::uint32_t operator()(std::uint32_t a) const {
    return a & (Count == 2 ? 0x7fff7fffu : 0x7fffu);
  }
};

template <class Format, int Count, class Operation>
constexpr Handler kUnary = unary<std::uint32_t, OnHalves<Format, Count, Operation>>;
template <class Format, int Count, class Operation>
constexpr Handler kBinary = binary<std::uint32_t, OnHalves<Format, Count, Operation>>;
template <class Format, int Count, class Operation>
constexpr Handler kTernary = ternary<std::uint32_t, OnHalves<Format, Count, Operation>>;

template <class Format, int Count>
void add_format(FormTable& table, const std::string& type) {
  table["add." + type] = {"dss", kBinary<Format, Count, Add>};
  table["sub." + type] = {"dss", kBinary<Format, Count, Subtract>};
  table["mul." + type] = {"dss", kBinary<Format, Count, Multiply>};
  table["fma." + type] = {"dsss", kTernary<Format, Count, MultiplyAdd>};
  table["fma.relu." + type] = {"dsss", kTernary<Format, Count, MultiplyAddRelu>};
  table["min." + type] = {"dss", kBinary<Format, Count, Min>};
  table["max." + type] = {"dss", kBinary<Format, Count, Max>};
  table["min.NaN." + type] = {"dss", kBinary<Format, Count, MinNan>};
  table["max.NaN." + type] = {"dss", kBinary<Format, Count, MaxNan>};
  table["ex2." + type] = {"ds", kUnary<Format, Count, Exp2>};
  table["tanh." + type] = {"ds", kUnary<Format, Count, Tanh>};
  table["neg." + type] = {"ds", unary<std::uint32_t, Negate<Count>>};
  table["abs." + type] = {"ds", unary<std::uint32_t, Absolute<Count>>};
}

}  // namespace

void add_half_instructions(FormTable& table) {
  add_format<Bf16Format, 1>(table, "bf16");
  add_format<Bf16Format, 2>(table, "bf16x2");
  add_format<F16Format, 1>(table, "f16");
  add_format<F16Format, 2>(table, "f16x2");
}

}  // namespace lathe::ptx
