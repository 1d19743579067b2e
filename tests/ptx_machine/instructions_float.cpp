// Arithmetic on f32 and f64. Functions that the device approximates are as exact as the host's.
#include <cmath>

#include "instruction_table.h"
#include "rounding.h"
#include "warp.h"

namespace lathe::ptx {
namespace {

struct Add {
  template <class T>
  T operator()(T a, T b) const {
    return a + b;
  }
};
struct Subtract {
  template <class T>
  T operator()(T a, T b) const {
    return a - b;
  }
};
struct Multiply {
  template <class T>
  T operator()(T a, T b) const {
    return a * b;
  }
};
struct Divide {
  template <class T>
  T operator()(T a, T b) const {
    return a / b;
  }
};
struct MultiplyAdd {
  template <class T>
  T operator()(T a, T b, T c) const {
    return std::fma(a, b, c);
  }
};
struct Reciprocal {
  template <class T>
  T operator()(T a) const {
    return T{1} / a;
  }
};
struct SquareRoot {
  template <class T>
  T operator()(T a) const {
    return std::sqrt(a);
  }
};
struct ReciprocalRoot {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(1.0 / std::sqrt(static_cast<double>(a)));
  }
};
struct Exp2 {
  float operator()(float a) const { return std::exp2(a); }
};
struct Log2 {
  float operator()(float a) const { return std::log2(a); }
};
struct Sine {
  float operator()(float a) const { return std::sin(a); }
};
struct Cosine {
  float operator()(float a) const { return std::cos(a); }
};
struct Tanh {
  float operator()(float a) const { return std::tanh(a); }
};
struct Negate {
  template <class T>
  T operator()(T a) const {
    return -a;
  }
};
struct Absolute {
  template <class T>
  T operator()(T a) const {
    return std::fabs(a);
  }
};
// A NaN gives way to a number, and -0 is less than +0.
struct Min {
  template <class T>
  T operator()(T a, T b) const {
    if (a < b) return a;
    if (b < a) return b;
    if (a == b) return std::signbit(a) ? a : b;
    return std::isnan(a) ? b : a;
  }
};
struct Max {
  template <class T>
  T operator()(T a, T b) const {
    if (a > b) return a;
    if (b > a) return b;
    if (a == b) return std::signbit(a) ? b : a;
    return std::isnan(a) ? b : a;
  }
};
template <class Operation>
struct PropagatesNan {
  template <class T>
  T operator()(T a, T b) const {
    return std::isnan(a) || std::isnan(b) ? std::numeric_limits<T>::quiet_NaN() : Operation{}(a, b);
  }
};
struct CopySign {
  template <class T>
  T operator()(T sign, T magnitude) const {
    return std::copysign(magnitude, sign);
  }
};

struct IsFinite {
  template <class T>
  bool operator()(T a) const {
    return std::isfinite(a);
  }
};
struct IsInfinite {
  template <class T>
  bool operator()(T a) const {
    return std::isinf(a);
  }
};
struct IsNumber {
  template <class T>
  bool operator()(T a) const {
    return !std::isnan(a);
  }
};
struct IsNotANumber {
  template <class T>
  bool operator()(T a) const {
    return std::isnan(a);
  }
};
struct IsNormal {
  template <class T>
  bool operator()(T a) const {
    return std::isnormal(a);
  }
};
struct IsSubnormal {
  template <class T>
  bool operator()(T a) const {
    return std::fpclassify(a) == FP_SUBNORMAL;
  }
};

// Keeps the operation between the changes of the rounding mode.
template <class Operation>
struct Fenced {
  template <class... T>
  auto operator()(T... operands) const {
    return opaque(Operation{}(opaque(operands)...));
  }
};

template <int Direction, Handler Run>
void directed(Warp& warp, const Instruction& instruction, std::uint32_t lanes) {
  const RoundingDirection direction(Direction);
  Run(warp, instruction, lanes);
}

template <class T, int Direction>
void add_direction(FormTable& table, const std::string& mode, const std::string& type) {
  const std::string end = mode + "." + type;
  table["add" + end] = {"dss", directed<Direction, binary<T, Fenced<Add>>>};
  table["sub" + end] = {"dss", directed<Direction, binary<T, Fenced<Subtract>>>};
  table["mul" + end] = {"dss", directed<Direction, binary<T, Fenced<Multiply>>>};
  table["div" + end] = {"dss", directed<Direction, binary<T, Fenced<Divide>>>};
  table["fma" + end] = {"dsss", directed<Direction, ternary<T, Fenced<MultiplyAdd>>>};
  table["rcp" + end] = {"ds", directed<Direction, unary<T, Fenced<Reciprocal>>>};
  table["sqrt" + end] = {"ds", directed<Direction, unary<T, Fenced<SquareRoot>>>};
}

template <class T>
void add_type(FormTable& table, const std::string& type) {
  table["add." + type] = {"dss", binary<T, Add>};
  table["sub." + type] = {"dss", binary<T, Subtract>};
  table["mul." + type] = {"dss", binary<T, Multiply>};
  table["div." + type] = {"dss", binary<T, Divide>};
  table["fma." + type] = table["mad." + type] = {"dsss", ternary<T, MultiplyAdd>};
  table["rcp." + type] = {"ds", unary<T, Reciprocal>};
  table["sqrt." + type] = {"ds", unary<T, SquareRoot>};
  table["rsqrt." + type] = {"ds", unary<T, ReciprocalRoot>};
  table["neg." + type] = {"ds", unary<T, Negate>};
  table["abs." + type] = {"ds", unary<T, Absolute>};
  table["min." + type] = {"dss", binary<T, Min>};
  table["max." + type] = {"dss", binary<T, Max>};
  table["copysign." + type] = {"dss", binary<T, CopySign>};
  table["testp.finite." + type] = {"ds", unary<T, IsFinite>};
  table["testp.infinite." + type] = {"ds", unary<T, IsInfinite>};
  table["testp.number." + type] = {"ds", unary<T, IsNumber>};
  table["testp.notanumber." + type] = {"ds", unary<T, IsNotANumber>};
  table["testp.normal." + type] = {"ds", unary<T, IsNormal>};
  table["testp.subnormal." + type] = {"ds", unary<T, IsSubnormal>};
  add_direction<T, FE_TOWARDZERO>(table, ".rz", type);
  add_direction<T, FE_DOWNWARD>(table, ".rm", type);
  add_direction<T, FE_UPWARD>(table, ".rp", type);
}

}  // namespace

void add_float_instructions(FormTable& table) {
  add_type<float>(table, "f32");
  add_type<double>(table, "f64");
  table["min.NaN.f32"] = {"dss", binary<float, PropagatesNan<Min>>};
  table["max.NaN.f32"] = {"dss", binary<float, PropagatesNan<Max>>};
  table["ex2.f32"] = {"ds", unary<float, Exp2>};
  table["lg2.f32"] = {"ds", unary<float, Log2>};
  table["sin.f32"] = {"ds", unary<float, Sine>};
  table["cos.f32"] = {"ds", unary<float, Cosine>};
  table["tanh.f32"] = {"ds", unary<float, Tanh>};
}

}  // namespace lathe::ptx
