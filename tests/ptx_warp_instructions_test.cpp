// Memory, atomics, exchange between lanes, and matrix instructions.
#include <gtest/gtest.h>

#include <bit>
#include <numeric>

#include "support/ptx_instruction.h"

namespace lathe::test {
namespace {

// The body runs on 32 lanes; %r0 is the lane, %x0 = a, %x1 = b, %x2 = b + 8 lane. Returns what is
// at b as 64 bits for each lane.
std::vector<std::uint64_t> run_warp(const std::string& body, std::vector<std::uint64_t> in = {}) {
  in.resize(std::max<std::size_t>(in.size(), 64));
  const ptx::Module module = ptx::parse(
      ptx_module("mov.u32 %r0, %laneid; ld.param.u64 %x0, [a]; ld.param.u64 %x1, [b];"
                 "mul.wide.u32 %x2, %r0, 8; add.u64 %x2, %x1, %x2; mov.u64 %x19, 0;\n" +
                     body,
                 ".shared .align 16 .b8 tile[4096]; .extern .shared .align 16 .b8 dynamic[];\n"));
  for (const ptx::Instruction& instruction : module.kernels.at("kernel").code)
    exercised().insert(instruction.run);
  const PtxArray<std::uint64_t> a(in), b(std::vector<std::uint64_t>(32));
  EXPECT_EQ(ptx_error([&] { run_ptx(module, {}, a.address(), b.address()); }), "") << body;
  return b.values();
}

using LaneValue = std::function<std::uint64_t(std::uint32_t lane)>;

void expect_lanes(const std::string& body, const LaneValue& expected) {
  const auto values = run_warp(body);
  for (std::uint32_t lane = 0; lane < 32; ++lane)
    ASSERT_EQ(values[lane], expected(lane)) << body << " lane " << lane;
}

void check_loads_and_stores() {
  struct Case {
    const char *type, *load;
    std::uint64_t value;
  };
  const std::uint64_t word = 0x8a9bacbdcedfe0f1;
  const Case cases[] = {{"b8", "u8", 0xf1},         {"s8", "s8", 0xfffffffffffffff1},
                        {"b16", "u16", 0xe0f1},     {"s16", "s16", 0xffffffffffffe0f1},
                        {"b32", "f32", 0xcedfe0f1}, {"s32", "s32", 0xffffffffcedfe0f1},
                        {"u64", "b64", word},       {"f64", "f64", word}};
  for (const Case& c : cases) {
    for (const std::string space : {".global", ".shared", ".local", ""}) {
      const bool shared = space == ".shared", local = space == ".local";
      const std::string address = shared ? "tile" : local ? "depot" : "%x1";
      const std::string own =
          shared || local ? "mov.u64 %x5, " + address + "; " : "mov.u64 %x5, %x2; ";
      const std::string lane = shared ? "mul.wide.u32 %x6, %r0, 8; add.u64 %x5, %x5, %x6; " : "";
      expect_lanes(".local .align 8 .b8 depot[16]; mov.b64 %x3, " + std::to_string(word) + "; " +
                       own + lane + "st" + space + "." + c.type + " [%x5], %x3; ld" + space + "." +
                       c.load + " %x4, [%x5+0]; st.global.u64 [%x2], %x4;",
                   [&](std::uint32_t) { return c.value; });
    }
  }
  expect_lanes(
      "mov.u32 %r1, tile; mul.lo.u32 %r2, %r0, 16; add.u32 %r1, %r1, %r2;"
      "st.shared.v4.u32 [%r1], {1, %r0, 3, 4}; ld.shared.v2.b64 {%x3, %x4}, [%r1];"
      "xor.b64 %x3, %x3, %x4; st.volatile.global.u64 [%x2], %x3;",
      [](std::uint32_t lane) { return (std::uint64_t{lane} << 32 | 1) ^ (4ull << 32 | 3); });
  expect_lanes(
      ".reg .b128 %w; mov.u32 %r1, tile; mul.lo.u32 %r2, %r0, 16; add.u32 %r1, %r1, %r2;"
      "mov.b64 %x3, 5; cvt.u64.u32 %x4, %r0; mov.b128 %w, {%x3, %x4}; st.shared.b128 [%r1], %w;"
      "ld.shared.u64 %x5, [%r1+8]; st.global.u64 [%x2], %x5;",
      [](std::uint32_t lane) { return lane; });
}

void check_addresses() {
  expect_lanes(
      "mov.u64 %x3, tile; cvta.shared.u64 %x4, %x3; isspacep.shared %p1, %x4;"
      "isspacep.global %p2, %x4; cvta.to.shared.u64 %x5, %x4; sub.u64 %x5, %x5, %x3;"
      "@%p1 add.u64 %x5, %x5, 2; @%p2 add.u64 %x5, %x5, 4; st.global.u64 [%x2], %x5;",
      [](std::uint32_t) { return 2; });
  expect_lanes(
      "cvta.to.global.u64 %x4, %x2; cvta.global.u64 %x4, %x4; isspacep.local %p1, %x4;"
      "cvta.const.u64 %x4, %x4; selp.u64 %x5, 1, 7, %p1; st.u64 [%x4], %x5;",
      [](std::uint32_t) { return 7; });
  expect_lanes(
      ".local .align 8 .b8 depot[8]; mov.u64 %x3, depot; cvta.local.u64 %x4, %x3;"
      "st.u32 [%x4], %r0; cvta.to.local.u64 %x5, %x4; ld.local.u32 %r1, [%x5];"
      "mov.u64 %x6, b; cvta.param.u64 %x6, %x6; isspacep.param %p1, %x6; @!%p1 trap;"
      "ld.u64 %x7, [%x6]; cvta.to.param.u64 %x6, %x6; ld.param.u64 %x8, [%x6];"
      "setp.ne.u64 %p1, %x7, %x8; @%p1 trap; setp.ne.u64 %p1, %x8, %x1; @%p1 trap;"
      "cvt.u64.u32 %x9, %r1; st.global.u64 [%x2], %x9;",
      [](std::uint32_t lane) { return lane; });
}

// An atomic of every lane on one word: the word afterwards, and that the old values are those
// that a sequence of updates gives.
template <class T>
void check_atomic(const std::string& name, T start, T operand, const std::function<T(T, T)>& f) {
  const std::string type = name.substr(name.rfind('.') + 1);
  for (const std::string space : {".global", ".shared", ""}) {
    const std::string address = space == ".shared" ? "tile" : "%x0";
    const std::string operands = ", " + std::to_string(to_bits(operand));
    const std::string both =
        "setp.ne.u32 %p1, %r0, 0; mov.b64 %x4, " + std::to_string(to_bits(start)) + "; @!%p1 st" +
        space + ".b" + std::to_string(8 * sizeof(T)) + " [" + address + "], %x4; bar.sync 0; ";
    T value = start;
    std::vector<T> olds;
    for (int i = 0; i < 32; ++i) {
      olds.push_back(value);
      value = f(value, operand);
    }
    const auto atom = run_warp(both + "atom" + space + "." + name + " %x5, [" + address + "]" +
                               operands + "; st.global.u64 [%x2], %x5;");
    for (std::size_t i = 0; i < 32; ++i) ASSERT_EQ(atom[i], to_bits(olds[i])) << name << space << i;
    if (name.starts_with("exch")) continue;
    const auto red = run_warp(both + "red" + space + "." + name + " [" + address + "]" + operands +
                              "; bar.sync 0; ld" + space + ".b" + std::to_string(8 * sizeof(T)) +
                              " %x5, [" + address + "]; st.global.u64 [%x2], %x5;");
    ASSERT_EQ(red[31], to_bits(value)) << name << space;
  }
}

void check_atomics() {
  using U = std::uint32_t;
  using I = std::int32_t;
  using L = std::uint64_t;
  check_atomic<U>("add.u32", 0xfffffff0, 3, [](U a, U b) { return a + b; });
  check_atomic<U>("add.s32", 5, 0xffffffff, [](U a, U b) { return a + b; });
  check_atomic<L>("add.u64", 1, 1ull << 40, [](L a, L b) { return a + b; });
  check_atomic<float>("add.f32", 0.5f, 0.1f, [](float a, float b) { return a + b; });
  check_atomic<double>("add.f64", 0.5, 0.1, [](double a, double b) { return a + b; });
  check_atomic<U>("min.u32", 9, 0xfffffffe, [](U a, U b) { return std::min(a, b); });
  check_atomic<I>("min.s32", 9, -2, [](I a, I b) { return std::min(a, b); });
  check_atomic<U>("max.u32", 9, 0xfffffffe, [](U a, U b) { return std::max(a, b); });
  check_atomic<I>("max.s32", 9, -2, [](I a, I b) { return std::max(a, b); });
  check_atomic<L>("min.u64", 9, ~1ull, [](L a, L b) { return std::min(a, b); });
  check_atomic<L>("max.u64", 9, ~1ull, [](L a, L b) { return std::max(a, b); });
  check_atomic<std::int64_t>("min.s64", 9, -2, [](auto a, auto b) { return std::min(a, b); });
  check_atomic<std::int64_t>("max.s64", 9, -2, [](auto a, auto b) { return std::max(a, b); });
  check_atomic<U>("and.b32", 0xff00ff, 0x0ff0f0, [](U a, U b) { return a & b; });
  check_atomic<U>("or.b32", 0xff00ff, 0x0ff0f0, [](U a, U b) { return a | b; });
  check_atomic<U>("xor.b32", 0xff00ff, 0x0ff0f0, [](U a, U b) { return a ^ b; });
  check_atomic<L>("and.b64", ~0ull, 0x0ff0f0, [](L a, L b) { return a & b; });
  check_atomic<L>("or.b64", 1ull << 60, 0x0ff0f0, [](L a, L b) { return a | b; });
  check_atomic<L>("xor.b64", 1ull << 60, 0x0ff0f0, [](L a, L b) { return a ^ b; });
  check_atomic<U>("exch.b32", 4, 7, [](U, U b) { return b; });
  check_atomic<L>("exch.b64", 4, 7, [](L, L b) { return b; });
  check_atomic<U>("inc.u32", 6, 9, [](U a, U b) { return a >= b ? 0 : a + 1; });
  check_atomic<U>("dec.u32", 6, 9, [](U a, U b) { return a == 0 || a > b ? b : a - 1; });
  // bf16: 1 + 1 is 2, up to 32 is exact. f16 the same.
  check_atomic<std::uint16_t>("add.noftz.bf16", 0, 0x3f80, [](std::uint16_t a, std::uint16_t) {
    const float value = std::bit_cast<float>(std::uint32_t{a} << 16) + 1;
    return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
  });
  const auto exact_f16 = [](int n) -> std::uint16_t {  // of a small integer
    if (n == 0) return 0;
    const int log = std::bit_width(static_cast<unsigned>(n)) - 1;
    return static_cast<std::uint16_t>((log + 15) << 10 | (n << (10 - log) & 0x3ff));
  };
  int n = 0;
  check_atomic<std::uint16_t>("add.noftz.f16", 0, 0x3c00, [&](std::uint16_t a, std::uint16_t) {
    n = a == 0 ? 0 : n;
    return exact_f16(++n);
  });
  check_atomic<U>("add.noftz.bf16x2", 0, 0xbf803f80, [](U a, U) {
    const float value = std::bit_cast<float>(a << 16) + 1;
    const U up = std::bit_cast<U>(value) >> 16;
    return (up | 0x8000) << 16 | up;
  });
  check_atomic<U>("add.noftz.f16x2", 0, 0x3c003c00, [&](U a, U) {
    n = a == 0 ? 0 : n;
    return U{exact_f16(++n)} * 0x10001;
  });
  const std::string zero = "setp.ne.u32 %p1, %r0, 0; @!%p1 st.shared.u64 [tile], 3; bar.sync 0; ";
  for (const std::string type : {"b16", "b32", "b64"}) {
    expect_lanes(zero + "add.u32 %r3, %r0, 3; add.u32 %r4, %r0, 4; atom.shared.cas." + type +
                     " %x5, [tile], %r3, %r4; st.global.u64 [%x2], %x5;",
                 [](std::uint32_t lane) { return lane + 3; });
  }
}

void check_exchange() {
  using U = std::uint32_t;
  const std::string store = " cvt.u64.u32 %x5, %r5; st.global.u64 [%x2], %x5;";
  const std::string square = "mul.lo.u32 %r4, %r0, %r0; ";
  const auto shuffled = [&](const std::string& mode, U b, U c, const std::function<U(U)>& from) {
    const std::string operands = std::to_string(b) + ", " + std::to_string(c) + ", -1; ";
    expect_lanes(square + "shfl.sync." + mode + ".b32 %r5, %r4, " + operands + store,
                 [&](U l) { return from(l) * from(l); });
    expect_lanes(square + "shfl.sync." + mode + ".b32 %r5|%p1, %r4, " + operands +
                     "selp.u32 %r5, 1, 0, %p1;" + store,
                 [&](U l) {
                   if (mode == "up") return l % (32 - (c >> 8)) >= b;
                   if (mode == "down") return l % (32 - (c >> 8)) + b < 32 - (c >> 8);
                   return true;
                 });
  };
  shuffled("up", 3, 0, [](U l) { return l >= 3 ? l - 3 : l; });
  shuffled("up", 3, 0x1800, [](U l) { return l % 8 >= 3 ? l - 3 : l; });
  shuffled("down", 5, 31, [](U l) { return l + 5 < 32 ? l + 5 : l; });
  shuffled("down", 5, 0x101f, [](U l) { return l % 16 + 5 < 16 ? l + 5 : l; });
  shuffled("bfly", 9, 31, [](U l) { return l ^ 9; });
  shuffled("idx", 6, 31, [](U) { return 6; });
  shuffled("idx", 6, 0x181f, [](U l) { return l / 8 * 8 + 6; });
  const std::string third = "rem.u32 %r4, %r0, 3; setp.eq.u32 %p1, %r4, 0; ";
  const std::string set = " selp.u32 %r5, 1, 0, %p2;" + store;
  expect_lanes(third + "vote.sync.ballot.b32 %r5, %p1, -1;" + store, [](U) { return 0x49249249; });
  expect_lanes(third + "vote.sync.ballot.b32 %r5, !%p1, -1;" + store, [](U) { return 0xb6db6db6; });
  expect_lanes(third + "vote.sync.any.pred %p2, %p1, -1;" + set, [](U) { return 1; });
  expect_lanes(third + "vote.sync.all.pred %p2, %p1, -1;" + set, [](U) { return 0; });
  expect_lanes(third + "vote.sync.uni.pred %p2, %p1, -1;" + set, [](U) { return 0; });
  expect_lanes("setp.lt.u32 %p1, %r0, 32; vote.sync.all.pred %p2, %p1, -1;" + set,
               [](U) { return 1; });
  const U thirds[] = {0x49249249, 0x92492492, 0x24924924};
  expect_lanes(third + "match.any.sync.b32 %r5, %r4, -1;" + store,
               [&](U l) { return thirds[l % 3]; });
  expect_lanes(third + "cvt.u64.u32 %x4, %r4; match.any.sync.b64 %r5, %x4, -1;" + store,
               [&](U l) { return thirds[l % 3]; });
  expect_lanes(third + "match.all.sync.b32 %r5|%p2, %r4, -1; @%p2 trap;" + store,
               [](U) { return 0; });
  expect_lanes("mov.u64 %x4, 4; match.all.sync.b64 %r5|%p2, %x4, -1; @!%p2 trap;" + store,
               [](U) { return 0xffffffff; });
  const std::string from = "sub.s32 %r4, %r0, 7; redux.sync.";
  const std::string mask = " %r5, %r4, -1;" + store;
  expect_lanes(from + "add.s32" + mask, [](U) { return 31 * 16 - 7 * 32; });
  expect_lanes(from + "add.u32" + mask, [](U) { return 31 * 16 - 7 * 32; });
  expect_lanes(from + "min.s32" + mask, [](U) { return U(-7); });
  expect_lanes(from + "max.s32" + mask, [](U) { return 24; });
  expect_lanes(from + "min.u32" + mask, [](U) { return 0; });
  expect_lanes(from + "max.u32" + mask, [](U) { return U(-1); });
  expect_lanes(
      "activemask.b32 %r5; setp.gt.u32 %p1, %r0, 4; @%p1 activemask.b32 %r5; bar.warp.sync -1;" +
          store,
      [](U l) { return l > 4 ? 0xffffffe0 : 0xffffffff; });
}

// Element (row, column) of small integers, exact in every format.
int a_value(int row, int k) {
  return (row * 5 + k * 3) % 7 - 3;
}
int b_value(int k, int column) {
  return (k * 2 + column * 3) % 5 - 2;
}

// The bits of a small integer in a format.
std::uint32_t element(const std::string& format, int value) {
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
  if (format == "tf32") return bits | 0xabc;  // low bits that must not count
  if (format == "bf16") return bits >> 16;
  if (value == 0) return 0;
  return (bits >> 16 & 0x8000) | (((bits >> 23 & 0xff) - 112) << 10 | (bits >> 13 & 0x3ff));
}

void check_product(const std::string& shape, const std::string& format, int depth) {
  const int per_register = format == "tf32" ? 1 : 2, step = 4 * per_register, steps = depth / step;
  std::vector<std::uint64_t> in;
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4 * per_register;
    const auto pack = [&](const auto& value) {
      std::uint64_t bits = 0;
      for (int i = 0; i < per_register; ++i)
        bits |= std::uint64_t{element(format, value(i))} << (16 * i);
      in.push_back(bits);
    };
    for (int s = 0; s < steps; ++s) {
      pack([&](int i) { return a_value(g, s * step + t + i); });
      pack([&](int i) { return a_value(g + 8, s * step + t + i); });
    }
    for (int s = 0; s < steps; ++s) pack([&](int i) { return b_value(s * step + t + i, g); });
    in.resize(static_cast<std::size_t>(lane + 1) * 6);
  }
  const std::string operands = steps == 2 ? "{%x3,%x4,%x5,%x6}, {%x7,%x8}" : "{%x3,%x4}, {%x5}";
  for (int i = 0; i < 4; ++i) {
    const auto out = run_warp(
        "mul.wide.u32 %x10, %r0, 48; add.u64 %x10, %x10, %x0; ld.global.v2.u64 {%x3, %x4}, [%x10];"
        "ld.global.v2.u64 {%x5, %x6}, [%x10+16]; ld.global.v2.u64 {%x7, %x8}, [%x10+32];"
        "mov.b32 %r5, 0f41200000; cvt.rn.f32.u32 %r6, %r0;"
        "mma.sync.aligned." +
            shape + ".row.col.f32." + format + "." + format + ".f32 {%r10,%r11,%r12,%r13}, " +
            operands + ", {%r5,%r6,%r5,%r6}; cvt.u64.u32 %x5, %r1" + std::to_string(i) +
            "; st.global.u64 [%x2], %x5;",
        in);
    for (int lane = 0; lane < 32; ++lane) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      int sum = i % 2 == 0 ? 10 : lane;
      for (int k = 0; k < depth; ++k) sum += a_value(row, k) * b_value(k, column);
      ASSERT_EQ(
          std::bit_cast<float>(static_cast<std::uint32_t>(out[static_cast<std::size_t>(lane)])),
          static_cast<float>(sum))
          << shape << format << " lane " << lane << " register " << i;
    }
  }
}

void check_matrices() {
  check_product("m16n8k16", "bf16", 16);
  check_product("m16n8k8", "bf16", 8);
  check_product("m16n8k16", "f16", 16);
  check_product("m16n8k8", "f16", 8);
  check_product("m16n8k8", "tf32", 8);
  check_product("m16n8k4", "tf32", 4);
  // Element i of shared memory is i; lane l has the address of the eight from 8l on.
  const std::string fill =
      "mov.u32 %r1, tile; mul.lo.u32 %r2, %r0, 16; add.u32 %r1, %r1, %r2; mov.u32 %r3, 0;"
      "L: mad.lo.u32 %r4, %r0, 8, %r3; cvt.u16.u32 %s1, %r4; mad.lo.u32 %r5, %r3, 2, %r1;"
      "st.shared.u16 [%r5], %s1; add.u32 %r3, %r3, 1; setp.lt.u32 %p1, %r3, 8; @%p1 bra L;"
      "bar.sync 0; ";
  const auto pair = [](std::uint32_t low, std::uint32_t high) { return high << 16 | low; };
  for (const int count : {1, 2, 4}) {
    for (int m = 0; m < count; ++m) {
      const std::string registers = count == 1   ? "{%r10}"
                                    : count == 2 ? "{%r10,%r11}"
                                                 : "{%r10,%r11,%r12,%r13}";
      const std::string load = fill + "ldmatrix.sync.aligned.m8n8.x" + std::to_string(count);
      const std::string rest = ".shared.b16 " + registers + ", [%r1]; cvt.u64.u32 %x5, %r1" +
                               std::to_string(m) + "; st.global.u64 [%x2], %x5;";
      const auto base = static_cast<std::uint32_t>(64 * m);
      expect_lanes(load + rest,
                   [&](std::uint32_t l) { return base + pair(2 * l, 2 * l + 1) + (base << 16); });
      expect_lanes(load + ".trans" + rest, [&](std::uint32_t l) {
        const std::uint32_t first = l % 4 * 16 + l / 4;
        return base + pair(first, first + 8) + (base << 16);
      });
    }
  }
  expect_lanes(
      "shl.b32 %r4, %r0, 1; add.u32 %r5, %r4, 1; shl.b32 %r5, %r5, 16; or.b32 %r4, %r4, %r5;"
      "movmatrix.sync.aligned.m8n8.trans.b16 %r5, %r4; cvt.u64.u32 %x5, %r5; st.global.u64 [%x2], "
      "%x5;",
      [&](std::uint32_t l) { return pair(l % 4 * 16 + l / 4, l % 4 * 16 + l / 4 + 8); });
}

void check_copies_and_hints() {
  expect_lanes(
      "mov.u32 %r1, tile; mul.lo.u32 %r2, %r0, 16; add.u32 %r1, %r1, %r2; bar.sync 0;"
      "cp.async.ca.shared.global.L2::128B [%r1+8], [%x0], 8; cp.async.commit_group;"
      "cp.async.ca.shared.global [%r1], [%x0], 4; cp.async.cg.shared.global [%r1], [%x0], 16;"
      "cp.async.commit_group; cp.async.wait_group 0; cp.async.wait_all; ld.shared.u64 %x5, [%r1+8];"
      "membar.gl; membar.cta; fence.acq_rel.gpu; prefetch.global.L2 [%x0]; nanosleep.u32 10;"
      "st.global.u64 [%x2], %x5;",
      [](std::uint32_t) { return 0; });
}

TEST(PtxWarpInstructions, LoadsAndStores) {
  check_loads_and_stores();
}
TEST(PtxWarpInstructions, Addresses) {
  check_addresses();
}
TEST(PtxWarpInstructions, Atomics) {
  check_atomics();
}
TEST(PtxWarpInstructions, Exchange) {
  check_exchange();
}
TEST(PtxWarpInstructions, Matrices) {
  check_matrices();
}

TEST(PtxWarpInstructions, EveryOneIsTested) {
  exercised().clear();
  check_loads_and_stores();
  check_addresses();
  check_atomics();
  check_exchange();
  check_matrices();
  check_copies_and_hints();
  EXPECT_EQ(forms_not_exercised([](const std::string& key) {
              // The tests of the machine run these two.
              if (key == "trap" || key.starts_with("call.")) return false;
              return !is_elementwise(key) || key.starts_with("cvta.") ||
                     key.starts_with("isspacep.");
            }),
            std::vector<std::string>{});
}

}  // namespace
}  // namespace lathe::test
