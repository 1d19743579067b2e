#include "kernel_builder.h"

#include <fmt/format.h>

#include <array>

#include "scanner.h"

namespace lathe::ptx {
namespace {

struct SpecialName {
  std::string_view name;
  Special what;
};

constexpr std::array kSpecialNames = {
    SpecialName{"%tid.x", Special::tid_x},
    SpecialName{"%tid.y", Special::tid_y},
    SpecialName{"%tid.z", Special::tid_z},
    SpecialName{"%ntid.x", Special::ntid_x},
    SpecialName{"%ntid.y", Special::ntid_y},
    SpecialName{"%ntid.z", Special::ntid_z},
    SpecialName{"%ctaid.x", Special::ctaid_x},
    SpecialName{"%ctaid.y", Special::ctaid_y},
    SpecialName{"%ctaid.z", Special::ctaid_z},
    SpecialName{"%nctaid.x", Special::nctaid_x},
    SpecialName{"%nctaid.y", Special::nctaid_y},
    SpecialName{"%nctaid.z", Special::nctaid_z},
    SpecialName{"%laneid", Special::laneid},
    SpecialName{"%warpid", Special::warpid},
    SpecialName{"%nwarpid", Special::nwarpid},
    SpecialName{"%smid", Special::smid},
    SpecialName{"%lanemask_eq", Special::lanemask_eq},
    SpecialName{"%lanemask_lt", Special::lanemask_lt},
    SpecialName{"%lanemask_le", Special::lanemask_le},
    SpecialName{"%lanemask_gt", Special::lanemask_gt},
    SpecialName{"%lanemask_ge", Special::lanemask_ge},
    SpecialName{"%dynamic_smem_size", Special::dynamic_smem_size},
    SpecialName{"%total_smem_size", Special::total_smem_size},
};

}  // namespace

KernelBuilder::KernelBuilder(Kernel& kernel, const ModuleNames& names)
    : kernel_(kernel), names_(names) {}

void KernelBuilder::open_scope() {
  scopes_.emplace_back();
  scope_ids_.push_back(scopes_opened_++);
}

void KernelBuilder::close_scope() {
  scopes_.pop_back();
  scope_ids_.pop_back();
}

void KernelBuilder::add_parameter(const Declaration& declaration) {
  const std::int64_t begin = align_up(kernel_.parameter_bytes, declaration.alignment);
  kernel_.parameters.push_back(
      {declaration.name, static_cast<int>(begin), static_cast<int>(declaration.bytes())});
  kernel_.parameter_bytes = static_cast<int>(begin + declaration.bytes());
  symbols_[declaration.name] = {Space::param, begin};
}

void KernelBuilder::place(const Declaration& declaration, Space space) {
  int& used = space == Space::local ? kernel_.local_bytes : kernel_.static_shared_bytes;
  const std::int64_t begin = align_up(used, declaration.alignment);
  used = static_cast<int>(begin + declaration.bytes());
  symbols_[declaration.name] = {space, begin};
}

void KernelBuilder::declare(const std::string& text) {
  if (text.starts_with(".reg ")) return declare_registers(text.substr(5));
  const Declaration declaration = parse_declaration(text);
  if (declaration.unsized) throw Error("an array without a size inside a function");
  place(declaration, text.starts_with(".shared ") ? Space::shared : Space::local);
}

// "pred %p<5>" declares %p0 to %p4.
void KernelBuilder::declare_registers(const std::string& text) {
  const std::size_t space = text.find(' ');
  if (space == std::string::npos || text.front() != '.') throw Error("a register without a type");
  const bool wide = type_bytes(std::string_view(text).substr(1, space - 1)) == 16;
  const auto add = [&](const std::string& name) {
    const int number = add_register();
    if (wide) add_register();
    scopes_.back()[name] = {number, wide};
  };
  for (const std::string& name : split(text.substr(space), ',')) {
    const std::size_t bracket = name.find('<');
    if (bracket == std::string::npos) {
      add(name);
      continue;
    }
    const auto count =
        parse_immediate(trim(name.substr(bracket + 1, name.find('>') - bracket - 1)));
    if (!count || *count > 1'000'000) throw Error(fmt::format("register range '{}'", name));
    const std::string stem = trim(name.substr(0, bracket));
    for (std::uint64_t i = 0; i < *count; ++i) add(stem + std::to_string(i));
  }
}

void KernelBuilder::add_label(const std::string& name) {
  labels_[{scope_ids_.back(), name}] = static_cast<int>(kernel_.code.size());
}

const KernelBuilder::Register* KernelBuilder::find_register(const std::string& name) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    if (const auto found = scope->find(name); found != scope->end()) return &found->second;
  }
  return nullptr;
}

int KernelBuilder::constant(std::uint64_t value, bool in_dynamic_shared) {
  const auto [entry, added] = constants_.try_emplace({value, in_dynamic_shared}, 0);
  if (added) {
    entry->second = add_register();
    kernel_.constants.push_back({entry->second, value, in_dynamic_shared});
  }
  return entry->second;
}

int KernelBuilder::special(const std::string& name) {
  for (const SpecialName& known : kSpecialNames) {
    if (known.name != name) continue;
    const auto [entry, added] = specials_.try_emplace(name, 0);
    if (added) {
      entry->second = add_register();
      kernel_.specials.push_back({entry->second, known.what});
    }
    return entry->second;
  }
  return -1;
}

int KernelBuilder::symbol(const std::string& name, std::int64_t offset) {
  const auto plus = static_cast<std::uint64_t>(offset);
  if (!symbols_.contains(name)) {
    if (const auto shared = names_.shared.find(name); shared != names_.shared.end()) {
      const Declaration& declaration = shared->second;
      if (declaration.unsized) {
        int& alignment = kernel_.dynamic_shared_alignment;
        alignment = std::max(alignment, declaration.alignment);
        return constant(plus, true);
      }
      place(declaration, Space::shared);  // a module's arrays cost only those who use them
    }
  }
  if (const auto found = symbols_.find(name); found != symbols_.end()) {
    return constant(static_cast<std::uint64_t>(found->second.offset) + plus);
  }
  if (const auto found = names_.variables->find(name); found != names_.variables->end()) {
    return constant(reinterpret_cast<std::uint64_t>(found->second.memory) + plus);
  }
  throw Error(fmt::format("unknown operand '{}'", name));
}

std::vector<int> KernelBuilder::operand(const std::string& text) {
  if (text == "_") return {add_register()};
  if (const Register* found = find_register(text)) {
    if (found->wide) return {found->number, found->number + 1};
    return {found->number};
  }
  if (const int number = special(text); number >= 0) return {number};
  if (const auto value = parse_immediate(text)) return {constant(*value)};
  if (text == "WARP_SZ") return {constant(kWarpSize)};
  if (text.empty() || text.front() == '%') throw Error(fmt::format("unknown register '{}'", text));
  const std::size_t sign = text.find_first_of("+-");
  if (sign == std::string::npos) return {symbol(text, 0)};
  const auto offset = parse_immediate(trim(text.substr(text[sign] == '+' ? sign + 1 : sign)));
  if (!offset) throw Error(fmt::format("unknown operand '{}'", text));
  return {symbol(trim(text.substr(0, sign)), static_cast<std::int64_t>(*offset))};
}

int KernelBuilder::single_operand(const std::string& text) {
  const std::vector<int> numbers = operand(text);
  if (numbers.size() != 1) throw Error(fmt::format("'{}' has 128 bits", text));
  return numbers.front();
}

bool KernelBuilder::is_local(const std::string& name) const {
  const auto found = symbols_.find(name);
  return found != symbols_.end() && found->second.space == Space::local;
}

void KernelBuilder::add(Instruction instruction, const std::string& branch_label) {
  if (!branch_label.empty()) branches_.push_back({kernel_.code.size(), branch_label, scope_ids_});
  kernel_.code.push_back(std::move(instruction));
}

void KernelBuilder::finish() {
  for (const Branch& branch : branches_) {
    int& target = kernel_.code[branch.instruction].target;
    for (const int scope : branch.scopes) {
      if (const auto found = labels_.find({scope, branch.label}); found != labels_.end())
        target = found->second;  // the innermost comes last
    }
    if (target < 0) throw Error(fmt::format("unknown label '{}'", branch.label));
  }
  Instruction end;
  end.flow = Flow::exit;
  end.text = "end of the kernel";
  kernel_.code.push_back(std::move(end));
}

}  // namespace lathe::ptx
