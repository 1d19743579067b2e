// Names and code of one kernel while its body is read.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "declarations.h"
#include "program.h"

namespace lathe::ptx {

// What stands outside functions: shared arrays, and variables with their device memory.
struct ModuleNames {
  std::map<std::string, Declaration, std::less<>> shared;
  std::map<std::string, Variable>* variables;
};

class KernelBuilder {
 public:
  KernelBuilder(Kernel& kernel, const ModuleNames& names);

  void open_scope();
  void close_scope();

  // .reg, .shared, .local and .param inside the body.
  void declare(const std::string& text);
  void add_label(const std::string& name);
  void add_parameter(const Declaration& declaration);

  // The registers that stand for an operand: one, or two when it has 128 bits.
  std::vector<int> operand(const std::string& text);
  int single_operand(const std::string& text);
  // Of a name that is memory of the thread itself: arguments of calls are kept there.
  bool is_local(const std::string& name) const;

  void add(Instruction instruction, const std::string& branch_label);
  // Ends the code and resolves branches. Throws Error.
  void finish();

 private:
  struct Register {
    int number;
    bool wide;  // two registers, of a .b128
  };
  struct Symbol {
    Space space;
    std::int64_t offset;
  };
  struct Branch {
    std::size_t instruction;
    std::string label;
    std::vector<int> scopes;
  };

  int add_register() { return kernel_.registers++; }
  int constant(std::uint64_t value, bool in_dynamic_shared = false);
  void declare_registers(const std::string& text);
  const Register* find_register(const std::string& name) const;
  int special(const std::string& name);  // -1 when there is none
  int symbol(const std::string& name, std::int64_t offset);
  void place(const Declaration& declaration, Space space);

  Kernel& kernel_;
  const ModuleNames& names_;
  std::vector<std::unordered_map<std::string, Register>> scopes_;
  std::vector<int> scope_ids_;
  int scopes_opened_ = 0;
  std::unordered_map<std::string, Symbol> symbols_;
  std::map<std::pair<std::uint64_t, bool>, int> constants_;
  std::map<std::string, int> specials_;
  std::map<std::pair<int, std::string>, int> labels_;
  std::vector<Branch> branches_;
};

}  // namespace lathe::ptx
