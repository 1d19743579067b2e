#include "ptx_machine/parser.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "ptx_machine/declarations.h"
#include "ptx_machine/fat_binary.h"
#include "ptx_machine/scanner.h"
#include "support/ptx_kernel.h"

namespace lathe::test {
namespace {

std::string parse_error(const std::string& body) {
  return ptx_error([&] { ptx::parse(ptx_module(body)); });
}

TEST(PtxScanner, CutsTextIntoStatements) {
  const auto found = ptx::scan(
      ".version 8.0 // not this\n"
      ".file 1 \"http://x.cu\"\n"
      ".entry f(.param .u64 a)\n{ /* nor\n this */ L1:\n mov.b64 {%r1,\t%r2}, %x1;}\n"
      ".section .debug_str { L: .b8 1 }\n.global .b8 t[2] = {1, 2};");
  std::vector<std::string> texts;
  for (const auto& statement : found) texts.push_back(statement.text);
  EXPECT_EQ(texts, (std::vector<std::string>{
                       ".version 8.0", ".file 1 \"http://x.cu\"", ".entry f(.param .u64 a)", "",
                       "L1", "mov.b64 {%r1, %r2}, %x1", "", ".global .b8 t[2] = {1, 2}"}));
  EXPECT_EQ(found[4].kind, ptx::Statement::Kind::label);
  EXPECT_EQ(found[4].line, 5);
  EXPECT_EQ(found[5].line, 6);
}

TEST(PtxDeclarations, Immediates) {
  EXPECT_EQ(ptx::parse_immediate("42"), 42u);
  EXPECT_EQ(ptx::parse_immediate("-1"), ~std::uint64_t{0});
  EXPECT_EQ(ptx::parse_immediate("0x10U"), 16u);
  EXPECT_EQ(ptx::parse_immediate("0b101"), 5u);
  EXPECT_EQ(ptx::parse_immediate("0f3F800000"), 0x3f800000u);
  EXPECT_EQ(ptx::parse_immediate("0dBFF0000000000000"), 0xbff0000000000000u);
  for (const char* bad : {"", "x", "12x", "0f3F80", "-", "1.5"})
    EXPECT_FALSE(ptx::parse_immediate(bad).has_value()) << bad;
}

TEST(PtxDeclarations, ArraysAndPointers) {
  const auto array = ptx::parse_declaration(".shared .align 16 .b8 x[4][6]");
  EXPECT_EQ(array.name, "x");
  EXPECT_EQ(array.alignment, 16);
  EXPECT_EQ(array.bytes(), 24);
  const auto pointer = ptx::parse_declaration(".param .u64 .ptr .global .align 32 p");
  EXPECT_EQ(pointer.alignment, 8);
  EXPECT_EQ(pointer.bytes(), 8);
  EXPECT_TRUE(ptx::parse_declaration(".extern .shared .b8 y[]").unsized);
  EXPECT_THROW(ptx::parse_declaration(".shared .b7 z"), ptx::Error);
}

TEST(PtxParser, ReadsAKernel) {
  const ptx::Module module = ptx::parse(R"(
.version 8.0
.target sm_80
.address_size 64
.global .align 4 .u32 table[3] = {1, 2, 0xffffffff};
.extern .shared .align 32 .b8 dynamic[];
.shared .align 4 .b8 unused[100];
.visible .entry f(
  .param .u8 small,
  .param .align 8 .b8 object[12],
  .param .u16 last
)
.maxntid 64, 2, 1
.minnctapersm 2
{
  .reg .b32 %r<3>;
  .shared .align 8 .b8 fixed[20];
  .local .align 8 .b8 __local_depot0[24];
  mov.u32 %r1, dynamic;
  ret;
})");
  const ptx::Kernel& kernel = module.kernels.at("f");
  ASSERT_EQ(kernel.parameters.size(), 3u);
  EXPECT_EQ(kernel.parameters[1].offset, 8);
  EXPECT_EQ(kernel.parameters[2].offset, 20);
  EXPECT_EQ(kernel.parameter_bytes, 22);
  EXPECT_EQ(kernel.max_threads, 128);
  EXPECT_EQ(kernel.static_shared_bytes, 20);
  EXPECT_EQ(kernel.dynamic_shared_begin(), 32);
  EXPECT_EQ(kernel.local_bytes, 24);
  const ptx::Variable table = module.variables.at("table");
  ASSERT_EQ(table.bytes, 12u);
  std::array<std::uint32_t, 3> values;
  std::memcpy(values.data(), table.memory, 12);
  EXPECT_EQ(values, (std::array<std::uint32_t, 3>{1, 2, 0xffffffff}));
}

TEST(PtxParser, NamesWhatItDoesNotKnow) {
  struct Case {
    const char *text, *message;
  };
  const Case cases[] = {
      {"frobnicate.f32 %r1, %r2;", "unknown instruction 'frobnicate.f32'"},
      {"add.rx.f32 %r1, %r2, %r3;", "unknown instruction 'add.rx.f32'"},
      {"add.s31 %r1, %r2, %r3;", "unknown instruction 'add.s31'"},
      {"min.xorsign.abs.f32 %r1, %r2, %r3;", "unknown instruction"},
      {"add.cc.u32 %r1, %r2, %r3;", "unknown instruction"},
      {"ld.global.L2::cache_hint.f32 %r1, [%x1], %x2;", "unknown instruction"},
      {"red.global.add.f16x4 [%x1], %x2;", "unknown instruction"},
      {"wgmma.fence.sync.aligned;", "unknown instruction"},
      {"mbarrier.init.shared.b64 [%r1], 1;", "unknown instruction"},
      {"add.f32 %r1, %r2;", "2 operands are too few"},
      {"add.f32 %r1, %r2, %r3, %r4;", "4 operands are too many"},
      {"add.f32 %r1, %r2, %z3;", "unknown register '%z3'"},
      {"add.f32 %r1, %r2, %r20;", "unknown register '%r20'"},
      {"mov.u32 %r1, %clock;", "unknown register '%clock'"},
      {"mov.u32 %r1, nowhere;", "unknown operand 'nowhere'"},
      {"add.s32 %r1, %r2, 12x;", "unknown operand '12x'"},
      {"ld.global.v4.f32 {%r1, %r2}, [%x1];", "is a vector of 2, needed is 4"},
      {"st.global.f32 %x1, %r1;", "is no address"},
      {"mma.sync.aligned.m16n8k16.row.row.f32.bf16.bf16.f32 {%r1,%r2,%r3,%r4}, "
       "{%r1,%r2,%r3,%r4}, {%r1,%r2}, {%r1,%r2,%r3,%r4};",
       "unknown instruction"},
      {"ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r1,%r2}, [%r3];", "needed is 4"},
      {"lop3.b32 %r1, %r2, %r3, %r4, %r5;", "is no integer"},
      {"call.uni vprintf, (%x1, %x2);", "unknown instruction"},
      {".frob 1;", "unknown statement"},
  };
  for (const Case& c : cases) {
    const std::string error = parse_error(std::string("mov.u32 %r1, 1;\n") + c.text);
    EXPECT_TRUE(contains(error, c.message));
    const std::string_view text(c.text);
    EXPECT_TRUE(contains(error, "PTX line 11: "));  // lines 1 to 9 come before, then its .loc
    EXPECT_TRUE(contains(error, ": " + std::string(text.substr(0, text.size() - 1))));
  }
  EXPECT_TRUE(contains(parse_error("bra nowhere;"), "unknown label 'nowhere'"));
}

TEST(PtxParser, LooksNamesUpFromTheInnermostScope) {
  const ptx::Module module = ptx::parse(ptx_module(R"(ld.param.u64 %x1, [a];
mov.u32 %r1, 1;
{ .reg .b32 %r1; mov.u32 %r1, 5; bra L; mov.u32 %r1, 6; L: st.global.u32 [%x1], %r1; }
bra L;
mov.u32 %r1, 7;
L: st.global.u32 [%x1+4], %r1;)"));
  const PtxArray<std::uint32_t> out(2);
  run_ptx(module, {.threads = 1}, out.address());
  EXPECT_EQ(out.values(), (std::vector<std::uint32_t>{5, 1}));
}

TEST(PtxFatBinary, ChoosesTheArchitecture) {
  const auto text = [](const char* target, int value) {
    return std::string(".version 8.0\n.target ") + target +
           "\n.global .u32 v = " + std::to_string(value) + ";\n";
  };
  const auto value_with = [&](const char* wanted) {
    if (wanted != nullptr) setenv("LATHE_PTX_ARCH", wanted, 1);
    ptx::FatBinary binary({text("sm_80", 80), text("sm_90a", 90), text("sm_75", 75)});
    std::uint32_t value = 0;
    const std::string error = ptx_error(
        [&] { std::memcpy(&value, binary.module().variables.at("v").memory, sizeof(value)); });
    unsetenv("LATHE_PTX_ARCH");
    return error.empty() ? std::to_string(value) : error;
  };
  EXPECT_EQ(value_with(nullptr), "90");
  EXPECT_EQ(value_with("80"), "80");
  EXPECT_EQ(value_with("70"), "LATHE_PTX_ARCH is 70, there is PTX for 75, 80, 90");
}

}  // namespace
}  // namespace lathe::test
