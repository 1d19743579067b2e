// Instructions for tests: run on edge values, compared with what C++ computes.
#pragma once

#include <cmath>
#include <functional>
#include <limits>
#include <set>

#include "ptx_machine/instruction_table.h"
#include "support/ptx_kernel.h"

namespace lathe::test {

// Handlers that some test has run.
inline std::set<ptx::Handler>& exercised() {
  static std::set<ptx::Handler> handlers;
  return handlers;
}

template <class T>
std::uint64_t to_bits(T value) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}
template <class T>
T from_bits(std::uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

struct Operands {
  std::uint64_t a = 0, b = 0, c = 0, d = 0;
};

// The instruction is text with %a, %b, %c, %d for its sources, %o for its result and %q for a
// predicate result, which counts as 0 or 1. One thread for each of the operands.
inline std::vector<std::uint64_t> run_instruction(const std::string& text,
                                                  const std::vector<Operands>& operands) {
  const bool predicate = text.find("%q") != std::string::npos;
  const std::string body = R"(.reg .b64 %a, %b, %c, %d, %o; .reg .pred %q, %t;
mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x; mad.lo.u32 %r1, %r1, %r2, %r3;
setp.ge.u32 %p1, %r1, )" + std::to_string(operands.size()) +
                           R"(; @%p1 bra DONE;
ld.param.u64 %x1, [a]; mul.wide.u32 %x2, %r1, 32; add.u64 %x1, %x1, %x2;
ld.global.v2.u64 {%a, %b}, [%x1]; ld.global.v2.u64 {%c, %d}, [%x1+16]; setp.ne.u64 %t, %c, 0;
)" + text + (predicate ? " selp.u64 %o, 1, 0, %q;" : "") +
                           R"(
ld.param.u64 %x3, [b]; mul.wide.u32 %x2, %r1, 8; add.u64 %x3, %x3, %x2; st.global.u64 [%x3], %o;
DONE:)";
  const ptx::Module module = ptx::parse(ptx_module(body));
  for (const ptx::Instruction& instruction : module.kernels.at("kernel").code)
    exercised().insert(instruction.run);
  const PtxArray<Operands> in(operands);
  const PtxArray<std::uint64_t> out(operands.size());
  const auto blocks = static_cast<std::uint32_t>((operands.size() + 255) / 256);
  run_ptx(module, {.blocks = blocks, .threads = 256}, in.address(), out.address());
  return out.values();
}

template <class T>
bool same(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  }
  return to_bits(a) == to_bits(b);
}

template <class Out>
void expect_all(const std::string& text, const std::vector<Operands>& operands,
                const std::function<Out(const Operands&)>& expected) {
  std::vector<std::uint64_t> results;
  ASSERT_NO_THROW(results = run_instruction(text, operands)) << text;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    const Operands& o = operands[i];
    const Out wanted = expected(o);
    ASSERT_TRUE(same(from_bits<Out>(results[i]), wanted))
        << text << std::hex << " of 0x" << o.a << ", 0x" << o.b << ", 0x" << o.c << ", 0x" << o.d
        << " is 0x" << to_bits(from_bits<Out>(results[i])) << ", should be 0x" << to_bits(wanted);
  }
}

template <class T>
std::vector<T> edge_values() {
  using Limits = std::numeric_limits<T>;
  if constexpr (std::is_floating_point_v<T>) {
    return {T(0),
            T(-0.0),
            T(1),
            T(-1),
            T(0.5),
            T(1.5),
            T(2.5),
            T(-2.5),
            T(0.1),
            T(-3.7),
            T(127.5),
            T(65504),
            T(-40000),
            T(1e9),
            T(3e9),
            T(-3e9),
            T(1e19),
            T(1e20),
            Limits::max(),
            Limits::lowest(),
            Limits::min(),
            Limits::denorm_min(),
            Limits::infinity(),
            -Limits::infinity(),
            Limits::quiet_NaN()};
  } else {
    return {T(0),
            T(1),
            T(2),
            T(3),
            T(7),
            T(31),
            T(100),
            static_cast<T>(-1),
            static_cast<T>(-2),
            static_cast<T>(-100),
            static_cast<T>(0x5a5a5a5a5a5a5a5a),
            static_cast<T>(0xa5c3a5c3a5c3a5c3),
            Limits::min(),
            static_cast<T>(Limits::min() + 1),
            Limits::max(),
            static_cast<T>(Limits::max() - 1)};
  }
}

template <class Out, class A>
void check(const std::string& text, const std::function<Out(A)>& f) {
  std::vector<Operands> operands;
  for (const A a : edge_values<A>()) operands.push_back({to_bits(a)});
  expect_all<Out>(text, operands, [&](const Operands& o) { return f(from_bits<A>(o.a)); });
}

template <class Out, class A, class B>
void check(const std::string& text, const std::function<Out(A, B)>& f) {
  std::vector<Operands> operands;
  for (const A a : edge_values<A>()) {
    for (const B b : edge_values<B>()) operands.push_back({to_bits(a), to_bits(b)});
  }
  expect_all<Out>(text, operands,
                  [&](const Operands& o) { return f(from_bits<A>(o.a), from_bits<B>(o.b)); });
}

template <class Out, class A, class B, class C>
void check(const std::string& text, const std::function<Out(A, B, C)>& f) {
  std::vector<Operands> operands;
  for (const A a : edge_values<A>()) {
    for (const B b : edge_values<B>()) {
      for (const C c : edge_values<C>()) operands.push_back({to_bits(a), to_bits(b), to_bits(c)});
    }
  }
  expect_all<Out>(text, operands, [&](const Operands& o) {
    return f(from_bits<A>(o.a), from_bits<B>(o.b), from_bits<C>(o.c));
  });
}

// Forms of the table, among those that `wanted` holds for, that no test has run.
template <class Wanted>
std::vector<std::string> forms_not_exercised(const Wanted& wanted) {
  std::vector<std::string> missing;
  for (const auto& [key, form] : ptx::instruction_table()) {
    if (form.run != nullptr && wanted(key) && !exercised().contains(form.run))
      missing.push_back(key);
  }
  return missing;
}

// Those that work on each lane's registers alone.
inline bool is_elementwise(const std::string& key) {
  static const std::set<std::string> kOthers = {
      "ld",        "st",        "atom",      "red",
      "shfl",      "vote",      "match",     "redux",
      "mma",       "ldmatrix",  "movmatrix", "cp",
      "bar",       "membar",    "fence",     "griddepcontrol",
      "prefetch",  "nanosleep", "trap",      "call",
      "activemask"};
  return !kOthers.contains(key.substr(0, key.find('.')));
}

}  // namespace lathe::test
