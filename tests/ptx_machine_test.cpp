// What the machine does around instructions: divergence, barriers, memory, and the faults that it
// is there to find. Each planted fault stands beside a correct version that must pass in every
// order.
#include "ptx_machine/machine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "support/ptx_kernel.h"

namespace lathe::test {
namespace {

using ptx::Order;

constexpr const char* kShared = ".shared .align 16 .b8 tile[4096];\n";

// %r0 = tid, %x1 = a + 4 tid, %r1 = shared + 4 tid
const std::string kPrologue =
    "mov.u32 %r0, %tid.x; ld.param.u64 %x0, [a]; mul.wide.u32 %x2, %r0, 4; add.s64 %x1, %x0, %x2; "
    "mov.u32 %r1, tile; shl.b32 %r2, %r0, 2; add.u32 %r1, %r1, %r2;\n";

struct Outcome {
  std::string error;
  std::vector<std::uint32_t> values;
};

Outcome run(const std::string& body, PtxLaunch how, std::size_t count = 1024) {
  const ptx::Module module = ptx::parse(ptx_module(kPrologue + body, kShared));
  const PtxArray<std::uint32_t> out(count);
  std::string error = ptx_error([&] { run_ptx(module, how, out.address()); });
  return {std::move(error), out.values()};
}

// The error is the same kind in every order, and names the line in the source.
void expect_fault(const std::string& body, const PtxLaunch& how, const std::string& message,
                  std::size_t count = 1024) {
  for (const Order order : kPtxOrders) {
    PtxLaunch launch = how;
    launch.order = order;
    const Outcome outcome = run(body, launch, count);
    EXPECT_TRUE(contains(outcome.error, message)) << body;
    EXPECT_TRUE(contains(outcome.error, "test.cu:"));
    EXPECT_TRUE(contains(outcome.error, "PTX line "));
  }
}

void expect_values(const std::string& body, const PtxLaunch& how,
                   const std::vector<std::uint32_t>& expected) {
  for (const Order order : kPtxOrders) {
    PtxLaunch launch = how;
    launch.order = order;
    const Outcome outcome = run(body, launch, expected.size());
    EXPECT_EQ(outcome.error, "") << body;
    EXPECT_EQ(outcome.values, expected) << body;
  }
}

std::vector<std::uint32_t> count_to(std::uint32_t count) {
  std::vector<std::uint32_t> values(count);
  std::iota(values.begin(), values.end(), 0u);
  return values;
}

TEST(PtxMachine, DivergedLanesMeetAgain) {
  // Lane l goes round l times, odd and even lanes apart inside; the vote sees all 32 at the end.
  expect_values(R"(mov.u32 %r5, 0; mov.u32 %r6, 0; and.b32 %r7, %r0, 1; setp.eq.u32 %p1, %r7, 0;
LOOP: setp.ge.u32 %p2, %r5, %r0;
@%p2 bra DONE;
@%p1 bra EVEN;
add.u32 %r6, %r6, 10; bra NEXT;
EVEN: add.u32 %r6, %r6, 1;
NEXT: add.u32 %r5, %r5, 1; bra LOOP;
DONE: activemask.b32 %r8; popc.b32 %r8, %r8; shl.b32 %r8, %r8, 16; or.b32 %r6, %r6, %r8;
st.global.u32 [%x1], %r6;)",
                {.threads = 8},
                {0x80000, 0x8000a, 0x80002, 0x8001e, 0x80004, 0x80032, 0x80006, 0x80046});
}

TEST(PtxMachine, CountsBlocksThreadsAndSpecialRegisters) {
  const ptx::Module module = ptx::parse(ptx_module(R"(ld.param.u64 %x1, [a];
mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ctaid.y; mov.u32 %r3, %ctaid.z; mov.u32 %r4, %nctaid.x;
mov.u32 %r5, %nctaid.y; mad.lo.u32 %r6, %r3, %r5, %r2; mad.lo.u32 %r6, %r6, %r4, %r1;
mov.u32 %r1, %ntid.x; mov.u32 %r2, %ntid.y; mov.u32 %r3, %ntid.z; mul.lo.u32 %r4, %r1, %r2;
mul.lo.u32 %r4, %r4, %r3; mul.lo.u32 %r6, %r6, %r4; mov.u32 %r7, %tid.x; mov.u32 %r8, %tid.y;
mov.u32 %r9, %tid.z; mad.lo.u32 %r10, %r9, %r2, %r8; mad.lo.u32 %r10, %r10, %r1, %r7;
add.u32 %r6, %r6, %r10; mul.wide.u32 %x2, %r6, 4; add.u64 %x1, %x1, %x2;
mov.u32 %r11, %laneid; mov.u32 %r12, %warpid; mad.lo.u32 %r11, %r12, 32, %r11;
mov.u32 %r12, %lanemask_lt; popc.b32 %r12, %r12; mov.u32 %r13, %laneid;
setp.ne.u32 %p1, %r12, %r13; @%p1 trap; setp.ne.u32 %p1, %r11, %r10; @%p1 trap;
st.global.u32 [%x1], %r6;)"));
  const PtxArray<std::uint32_t> out(2 * 3 * 2 * 60);
  const std::array<std::uint64_t, 2> parameters = {out.address(), 0};
  ptx::launch(module.kernels.at("kernel"), {{2, 3, 2}, {5, 4, 3}, 0}, parameters.data());
  EXPECT_EQ(out.values(), count_to(2 * 3 * 2 * 60));
}

TEST(PtxMachine, RefusesImpossibleLaunches) {
  const ptx::Module module = ptx::parse(ptx_module(""));
  const auto error = [&](const PtxLaunch& how) { return ptx_error([&] { run_ptx(module, how); }); };
  EXPECT_TRUE(contains(error({.threads = 1025}), "invalid block (1025, 1, 1): at most 1024"));
  EXPECT_TRUE(contains(error({.threads = 0}), "invalid block"));
  EXPECT_TRUE(contains(error({.blocks = 0}), "invalid grid (0, 1, 1)"));
  EXPECT_TRUE(contains(error({.shared_bytes = 300000}), "300000 bytes of shared memory"));
  EXPECT_EQ(error({}), "");
}

TEST(PtxMachine, FindsAccessesOutOfBounds) {
  expect_values("st.global.u32 [%x1], %r0;", {.threads = 40}, count_to(40));
  expect_fault("st.global.u32 [%x1], %r0;", {.threads = 41},
               "write of 4 bytes ends 4 bytes past the end of an allocation of 160 bytes", 40);
  expect_fault("ld.global.u32 %r5, [%x1+-4];", {.threads = 1}, "outside device memory", 0);
  expect_fault("mov.u64 %x3, 0; ld.global.u32 %r5, [%x3];", {}, "access outside device memory");
  expect_fault("st.shared.u32 [%r1+4096], %r0;", {}, "shared memory byte 4096");
  expect_fault("st.shared.u32 [%r1+-4], %r0;", {.threads = 1}, "there are 4096 bytes");
  expect_fault("mov.u64 %x3, b; ld.param.u32 %r5, [b+8];", {}, "parameter memory byte 16");
}

TEST(PtxMachine, FindsUseOfReleasedMemory) {
  const ptx::Module module = ptx::parse(ptx_module("ld.param.u64 %x1, [a]; ld.u32 %r1, [%x1];"));
  std::uint64_t address = 0;
  {
    const PtxArray<std::uint32_t> array(8);
    address = array.address();
    run_ptx(module, {}, address);
  }
  EXPECT_TRUE(contains(ptx_error([&] { run_ptx(module, {}, address); }), "kernel: block (0,0,0)"));
}

TEST(PtxMachine, FindsMisalignedAccesses) {
  expect_values(
      "shl.b32 %r5, %r0, 4; cvt.u64.u32 %x3, %r5; add.u64 %x3, %x0, %x3;"
      "st.global.v4.u32 [%x3], {%r0, 0, 0, 7};",
      {.threads = 2}, {0, 0, 0, 7, 1, 0, 0, 7});
  expect_fault("st.global.v4.u32 [%x1], {0, 0, 0, 0};", {.threads = 4},
               "misaligned access: 16 bytes");
  expect_fault("ld.shared.u16 %s1, [%r1+1];", {}, "misaligned access: 2 bytes");
}

TEST(PtxMachine, LocalMemoryIsTheThreadsOwn) {
  expect_values(R"(.local .align 4 .b8 depot[8]; mov.u64 %x3, depot; cvta.local.u64 %x4, %x3;
st.local.u32 [%x3+4], %r0; bar.sync 0; ld.u32 %r5, [%x4+4]; st.global.u32 [%x1], %r5;)",
                {.threads = 70}, count_to(70));
  expect_fault(".local .align 4 .b8 depot[8]; st.local.u32 [depot+8], %r0;", {},
               "local memory byte 8");
}

// Each thread writes its word of shared memory and reads that of the opposite one.
std::string exchange(const std::string& between) {
  return "mov.u32 %r5, %ntid.x; sub.u32 %r5, %r5, 1; sub.u32 %r5, %r5, %r0; shl.b32 %r5, %r5, 2;\n"
         "mov.u32 %r6, tile; add.u32 %r6, %r6, %r5; mov.u32 %r7, %ntid.x; sub.u32 %r7, %r7, %r0;\n"
         "sub.u32 %r7, %r7, 1; st.shared.u32 [%r1], %r7;\n" +
         between + "\nld.shared.u32 %r8, [%r6]; st.global.u32 [%x1], %r8;";
}

TEST(PtxMachine, FindsMissingBarriers) {
  expect_values(exchange("bar.sync 0;"), {.threads = 96}, count_to(96));
  expect_values(exchange("barrier.sync.aligned 3;"), {.threads = 96}, count_to(96));
  expect_fault(exchange(""), {.threads = 96}, "race: ");
  expect_values(exchange("bar.warp.sync 0xffffffff;"), {.threads = 32}, count_to(32));
  expect_fault(exchange(""), {.threads = 32}, "race: read after a write by thread");
  // What one warp does for itself orders nothing between warps.
  expect_fault(exchange("bar.warp.sync 0xffffffff;"), {.threads = 64}, "race: ");
  // The second round overwrites what others may still read.
  expect_fault(exchange("bar.sync 0;") + "st.shared.u32 [%r1], %r0;", {.threads = 64}, "race: ");
}

TEST(PtxMachine, FindsRacesInGlobalMemory) {
  const std::string neighbour =
      "add.u32 %r5, %r0, 1; rem.u32 %r5, %r5, 64; mul.wide.u32 %x5, %r5, 4;"
      "add.u64 %x5, %x0, %x5; st.global.u32 [%x1], %r0;";
  expect_values(neighbour +
                    "bar.sync 0; ld.global.u32 %r6, [%x5]; bar.sync 0;"
                    "st.global.u32 [%x1], %r6;",
                {.threads = 64}, [] {
                  auto values = count_to(65);
                  values.erase(values.begin());
                  values.back() = 0;
                  return values;
                }());
  expect_fault(neighbour + "ld.global.u32 %r6, [%x5];", {.threads = 64}, "global memory byte");
  // Between blocks nothing helps but atomics.
  expect_fault("st.global.u32 [%x1], %r0;", {.blocks = 2}, "of block");
  expect_fault("ld.global.u32 %r5, [%x0]; add.u32 %r5, %r5, 1; st.global.u32 [%x0], %r5;", {},
               "race: ");
}

TEST(PtxMachine, AtomicsDoNotRaceWithEachOther) {
  const std::string zero = "setp.ne.u32 %p1, %r0, 0; @!%p1 st.shared.u32 [tile], 0; bar.sync 0;";
  expect_values(zero +
                    "red.shared.add.u32 [tile], 2; bar.sync 0; ld.shared.u32 %r5, [tile];"
                    "st.global.u32 [%x1], %r5;",
                {.threads = 64}, std::vector<std::uint32_t>(64, 128));
  expect_fault(zero + "red.shared.add.u32 [tile], 2; ld.shared.u32 %r5, [tile];", {.threads = 64},
               "race: ");
}

// The last block of the grid to arrive adds up what all have written.
std::string last_block(const std::string& fence) {
  return "mov.u32 %r5, %ctaid.x; mul.wide.u32 %x3, %r5, 4; add.u64 %x3, %x0, %x3;\n"
         "st.global.u32 [%x3+8], 5; " +
         fence +
         " atom.global.inc.u32 %r6, [%x0], 3;\n"
         "setp.ne.u32 %p1, %r6, 3; @%p1 bra OUT;\n"
         "ld.global.u32 %r7, [%x0+8]; ld.global.u32 %r8, [%x0+12]; ld.global.u32 %r9, [%x0+16];\n"
         "ld.global.u32 %r10, [%x0+20]; add.u32 %r7, %r7, %r8; add.u32 %r9, %r9, %r10;\n"
         "add.u32 %r7, %r7, %r9; st.global.u32 [%x0+4], %r7;\nOUT: ret;";
}

TEST(PtxMachine, FencesAndAtomicsOrderBlocks) {
  for (const Order order : kPtxOrders) {
    for (const bool fenced : {true, false}) {
      const ptx::Module module =
          ptx::parse(ptx_module(kPrologue + last_block(fenced ? "membar.gl;" : ""), kShared));
      const PtxArray<std::uint32_t> out(std::vector<std::uint32_t>(6, 0));
      const std::string error = ptx_error(
          [&] { run_ptx(module, {.blocks = 4, .threads = 1, .order = order}, out.address()); });
      if (fenced) {
        EXPECT_EQ(error, "");
        EXPECT_EQ(out.values(), (std::vector<std::uint32_t>{0, 20, 5, 5, 5, 5}));
      } else {
        EXPECT_TRUE(contains(error, "read after a write by thread 0 of block"));
      }
    }
  }
}

TEST(PtxMachine, NamedBarriersOrderThoseWhoTakePart) {
  // Warps 0 and 1 exchange words; 2 and 3 do so too, at a barrier of their own.
  const std::string body =
      "xor.b32 %r5, %r0, 32; shl.b32 %r5, %r5, 2; mov.u32 %r6, tile; add.u32 %r6, %r6, %r5;"
      "xor.b32 %r7, %r0, 32; st.shared.u32 [%r1], %r7; shr.u32 %r8, %r0, 6; add.u32 %r8, %r8, 1;\n";
  const std::string rest = "\nld.shared.u32 %r9, [%r6]; st.global.u32 [%x1], %r9;";
  expect_values(body + "bar.sync %r8, 64;" + rest, {.threads = 128}, count_to(128));
  // Warps 0 with 2, and 1 with 3: not those that exchange.
  expect_fault(body +
                   "shr.u32 %r8, %r0, 5; and.b32 %r8, %r8, 1; add.u32 %r8, %r8, 1;"
                   "bar.sync %r8, 64;" +
                   rest,
               {.threads = 128}, "race: ");
  // Warp 0 only tells that it has written, warp 1 waits for it.
  expect_values(
      "st.shared.u32 [%r1], %r0; setp.lt.u32 %p1, %r0, 32; @%p1 bar.arrive 5, 64;\n"
      "@!%p1 bar.sync 5, 64; @!%p1 ld.shared.u32 %r9, [%r1+-128];\n"
      "@!%p1 st.global.u32 [%x1+-128], %r9;",
      {.threads = 64}, count_to(32));
  expect_fault(
      "st.shared.u32 [%r1], %r0; setp.lt.u32 %p1, %r0, 32; @%p1 bar.sync 5, 64;\n"
      "@!%p1 bar.arrive 5, 64; @!%p1 ld.shared.u32 %r9, [%r1+-128];",
      {.threads = 64}, "race: ");
  expect_fault("bar.sync 1, 40;", {.threads = 64}, "a barrier of 40 threads");
}

TEST(PtxMachine, FindsDivergentBarriersAndDeadlocks) {
  expect_fault("setp.lt.u32 %p1, %r0, 32; @%p1 bra A; bar.sync 0; bra B; A: bar.sync 0; B:",
               {.threads = 64}, "divergent barrier");
  expect_fault("setp.lt.u32 %p1, %r0, 32; @%p1 bar.sync 1; @!%p1 bar.sync 2;", {.threads = 64},
               "deadlock: barrier");
  expect_fault("setp.lt.u32 %p1, %r0, 32; @%p1 bar.sync 1, 64;", {.threads = 64},
               "deadlock: barrier");
}

TEST(PtxMachine, FindsBarriersThatThreadsLeftOut) {
  expect_fault("setp.ge.u32 %p1, %r0, 50; @%p1 ret; bar.sync 0;", {.threads = 64}, "exit");
  expect_fault("setp.ge.u32 %p1, %r0, 32; @%p1 bra OUT; bar.sync 0; OUT:", {.threads = 64}, "exit");
}

TEST(PtxMachine, FindsEndlessLoops) {
  ptx::machine().options.instruction_limit = 1 << 20;
  expect_fault("L: add.u32 %r5, %r0, 1; bra L;", {}, "endless loop");
  ptx::machine().options.instruction_limit = ptx::Options{}.instruction_limit;
}

TEST(PtxMachine, AWarpThatWaitsLetsOthersRun) {
  expect_values(R"(setp.lt.u32 %p1, %r0, 32; mov.u32 %r5, tile; setp.ne.u32 %p3, %r0, 0;
@!%p3 st.shared.u32 [%r5], 0; bar.sync 0;
@%p1 bra WAIT; red.shared.add.u32 [%r5], 1; bra OUT;
WAIT: ld.volatile.shared.u32 %r6, [%r5]; setp.ne.u32 %p2, %r6, 32; @%p2 bra WAIT;
OUT: st.global.u32 [%x1], %r0;)",
                {.threads = 64}, count_to(64));
}

TEST(PtxMachine, GathersTheLanesOfAShuffle) {
  // Two paths to one shuffle, and two halves of a warp with masks of their own.
  expect_values(R"(setp.lt.u32 %p1, %r0, 7; @%p1 bra A; mov.u32 %r5, %r0; bra B;
A: add.u32 %r5, %r0, 0; add.u32 %r5, %r5, 0;
B: shfl.sync.bfly.b32 %r6, %r5, 31, 31, -1; xor.b32 %r6, %r6, 31;
setp.lt.u32 %p1, %r0, 16; selp.b32 %r7, 0xffff, 0xffff0000, %p1;
shfl.sync.bfly.b32 %r6, %r6, 1, 31, %r7; xor.b32 %r6, %r6, 1; st.global.u32 [%x1], %r6;)",
                {}, count_to(32));
}

TEST(PtxMachine, FindsWarpInstructionsWithoutTheirLanes) {
  expect_fault("setp.lt.u32 %p1, %r0, 16; @%p1 shfl.sync.bfly.b32 %r6, %r0, 1, 31, -1;", {},
               "deadlock: waits for lanes");
  expect_fault("shfl.sync.bfly.b32 %r6, %r0, 1, 31, -1;", {.threads = 20},
               "of which 0xfff00000 exited");
  expect_fault("setp.lt.u32 %p1, %r0, 16; @%p1 shfl.sync.idx.b32 %r6, %r0, 20, 31, 0xffff;", {},
               "shuffle from lane 20");
  expect_fault("shfl.sync.bfly.b32 %r6, %r0, 1, 31, 0xffff;", {}, "does not name itself");
  expect_fault(
      "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%r1,%r2,%r3,%r4}, {%r1,%r2}, "
      "{%r1}, {%r1,%r2,%r3,%r4};",
      {.threads = 31}, "of which 0x80000000 exited");
}

TEST(PtxMachine, WhatIsNotWrittenIsNan) {
  const auto float_at = [](const Outcome& outcome) {
    return std::bit_cast<float>(outcome.values[0]);
  };
  for (const Order order : kPtxOrders) {
    const PtxLaunch how{.threads = 1, .order = order};
    EXPECT_TRUE(
        std::isnan(float_at(run("add.f32 %r5, %r6, 0f3F800000; st.global.f32 [%x1], %r5;", how))));
    EXPECT_TRUE(
        std::isnan(float_at(run("ld.shared.f32 %r5, [%r1]; st.global.f32 [%x1], %r5;", how))));
    EXPECT_TRUE(
        std::isnan(float_at(run("ld.global.f32 %r5, [%x1]; st.global.f32 [%x1], %r5;", how))));
    EXPECT_TRUE(std::isnan(float_at(run("cvt.f32.bf16 %r5, %s4; st.global.f32 [%x1], %r5;", how))));
  }
}

// Copies 16 bytes from a to shared memory, waits, and stores the first word behind a.
std::string async_copy(const std::string& wait) {
  return "cp.async.cg.shared.global [tile], [%x0], 16; cp.async.commit_group;"
         "cp.async.ca.shared.global [tile+16], [%x0+16], 8, 4; cp.async.commit_group;" +
         wait +
         "ld.shared.u32 %r5, [tile]; ld.shared.v2.u32 {%r6, %r7}, [tile+16];"
         "st.global.u32 [%x0+32], %r5; st.global.v2.u32 [%x0+40], {%r6, %r7};";
}

TEST(PtxMachine, AsynchronousCopiesLandLateOrAtOnce) {
  constexpr std::uint32_t kFresh = 0xffffffff;
  const auto outcome = [](const std::string& wait, Order order) {
    const ptx::Module module = ptx::parse(ptx_module(kPrologue + async_copy(wait), kShared));
    const PtxArray<std::uint32_t> memory(count_to(12));
    run_ptx(module, {.threads = 1, .order = order}, memory.address());
    const auto values = memory.values();
    return std::vector<std::uint32_t>{values[8], values[10], values[11]};
  };
  const std::vector<std::uint32_t> right = {0, 4, 0};
  for (const Order order : kPtxOrders) {
    EXPECT_EQ(outcome("cp.async.wait_all;", order), right);
    EXPECT_EQ(outcome("cp.async.wait_group 0;", order), right);
    const bool late = order != Order::reverse;
    const std::vector<std::uint32_t> one_late = {0, kFresh, kFresh};
    const std::vector<std::uint32_t> both_late = {kFresh, kFresh, kFresh};
    EXPECT_EQ(outcome("cp.async.wait_group 1;", order), late ? one_late : right);
    EXPECT_EQ(outcome("", order), late ? both_late : right);
  }
  expect_fault("cp.async.cg.shared.global [%r1], [%x0], 16;", {.threads = 2}, "misaligned");
  expect_fault("cp.async.cg.shared.global [tile], [%x0], 8;", {.threads = 1},
               "cp.async of 8 bytes");
}

TEST(PtxMachine, AWaitDoesNotReplaceTheBarrierForOthers) {
  const std::string copy = "cp.async.ca.shared.global [%r1], [%x1], 4; cp.async.wait_all;";
  const std::string read =
      "xor.b32 %r5, %r0, 1; shl.b32 %r5, %r5, 2; mov.u32 %r6, tile;"
      "add.u32 %r6, %r6, %r5; ld.shared.u32 %r7, [%r6];";
  expect_fault(copy + read, {}, "race: read after a write");
  for (const Order order : kPtxOrders)
    EXPECT_EQ(run(copy + "bar.sync 0;" + read, {.order = order}).error, "");
}

TEST(PtxMachine, DynamicSharedMemoryEndsWhereTheLaunchSays) {
  const ptx::Module module = ptx::parse(ptx_module(
      "mov.u32 %r0, %tid.x; shl.b32 %r1, %r0, 2; mov.u32 %r2, more; add.u32 %r2, %r2, %r1;"
      "st.shared.u32 [%r2], 1; mov.u32 %r3, tile; setp.eq.u32 %p1, %r0, 0; @%p1 st.shared.u32 "
      "[%r3+4092], 1;",
      std::string(kShared) + ".extern .shared .align 128 .b8 more[];"));
  EXPECT_EQ(ptx_error([&] { run_ptx(module, {.threads = 32, .shared_bytes = 128}); }), "");
  EXPECT_TRUE(contains(ptx_error([&] { run_ptx(module, {.threads = 32, .shared_bytes = 124}); }),
                       "shared memory byte 4220: there are 4220 bytes"));
}

TEST(PtxMachine, NamesPlaceThreadAndInstruction) {
  const std::string error = run("\n\ndiv.u32 %r5, 1, %r0;", {.blocks = 1}).error;
  EXPECT_EQ(error.substr(0, error.find(": integer")),
            "test.cu:4: kernel kernel: block (0,0,0) thread (0,0,0)");
  EXPECT_TRUE(contains(error, "integer division by zero\n    PTX line "));
  EXPECT_TRUE(contains(error, ": div.u32 %r5, 1, %r0"));
}

TEST(PtxMachine, AssertionsSayWhatFailed) {
  const std::string text = R"(
.global .align 1 .b8 $str[6] = {120, 32, 62, 32, 48, 0};
.global .align 1 .b8 $file[5] = {120, 46, 99, 117, 0};
)";
  const ptx::Module module = ptx::parse(ptx_module(R"({ .param .b64 param0; .param .b64 param1;
.param .b32 param2; .param .b64 param3; .param .b64 param4;
mov.u64 %x1, $str; cvta.global.u64 %x2, %x1; st.param.b64 [param0], %x2;
mov.u64 %x1, $file; cvta.global.u64 %x3, %x1; st.param.b64 [param1+0], %x3;
st.param.b32 [param2], 12; st.param.b64 [param3], %x3; st.param.b64 [param4], 1;
call.uni __assertfail, (param0, param1, param2, param3, param4); })",
                                                   text));
  EXPECT_TRUE(
      contains(ptx_error([&] { run_ptx(module, {}); }), "assertion failed: x > 0 (x.cu:12, "));
}

}  // namespace
}  // namespace lathe::test
