#include "instruction_table.h"

namespace lathe::ptx {

const FormTable& instruction_table() {
  static const FormTable table = [] {
    FormTable forms;
    add_integer_instructions(forms);
    add_bit_instructions(forms);
    add_float_instructions(forms);
    add_half_instructions(forms);
    add_comparison_instructions(forms);
    add_conversion_instructions(forms);
    add_memory_instructions(forms);
    add_atomic_instructions(forms);
    add_copy_instructions(forms);
    add_warp_instructions(forms);
    add_matrix_instructions(forms);
    add_control_instructions(forms);
    return forms;
  }();
  return table;
}

}  // namespace lathe::ptx
