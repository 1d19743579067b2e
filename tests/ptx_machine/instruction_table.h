// Which instructions there are: how each is written and what executes it.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>

#include "program.h"

namespace lathe::ptx {

// Operands are described by one letter each:
//   d  destination, or _          D  destination, then perhaps |second destination
//   s  source                     p  predicate source, perhaps negated by !
//   a  address in brackets        i  integer immediate
//   l  label                      c  the operands of a call
// A digit after d or s asks for a vector of so many, * for as many as the .vN modifier says, + for
// any number. What follows ? may be left out.
struct Form {
  std::string_view operands;
  Handler run = nullptr;
  Flow flow = Flow::next;
  Gather gather = Gather::none;
};

// By opcode without the modifiers that make no difference here: "add.f32", "setp.lt.s32".
using FormTable = std::unordered_map<std::string, Form>;

const FormTable& instruction_table();

void add_integer_instructions(FormTable& table);
void add_bit_instructions(FormTable& table);
void add_float_instructions(FormTable& table);
void add_half_instructions(FormTable& table);
void add_comparison_instructions(FormTable& table);
void add_conversion_instructions(FormTable& table);
void add_memory_instructions(FormTable& table);
void add_atomic_instructions(FormTable& table);
void add_copy_instructions(FormTable& table);
void add_warp_instructions(FormTable& table);
void add_matrix_instructions(FormTable& table);
void add_control_instructions(FormTable& table);

}  // namespace lathe::ptx
