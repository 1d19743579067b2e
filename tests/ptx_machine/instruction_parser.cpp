#include "instruction_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "instruction_table.h"
#include "scanner.h"

namespace lathe::ptx {
namespace {

// Modifiers that change nothing here, by opcode: caches, hints, and promises to the hardware.
// Approximate functions are exact on the CPU, and subnormal numbers are kept.
struct Irrelevant {
  std::string_view opcodes, modifiers;
};
constexpr std::array kIrrelevant = {
    Irrelevant{"add sub mul fma mad div rcp sqrt rsqrt ex2 lg2 sin cos tanh min max abs neg setp "
               "selp cvt",
               "ftz approx full rn"},
    Irrelevant{"ld st",
               "weak cta gpu sys cluster nc ca cg cs lu cv wb wt L1::evict_first L1::evict_last "
               "L1::evict_normal L1::evict_unchanged L1::no_allocate L2::64B L2::128B L2::256B"},
    Irrelevant{"atom red", "relaxed acquire release acq_rel cta gpu sys cluster noftz"},
    Irrelevant{"bra ret call", "uni"},
    Irrelevant{"bar barrier", "cta aligned"},
    Irrelevant{"shfl vote match redux", "sync"},
    Irrelevant{"mma movmatrix", "sync aligned"},
    Irrelevant{"ldmatrix", "sync aligned shared shared::cta"},
    Irrelevant{"cp", "shared shared::cta global L2::64B L2::128B L2::256B"},
    Irrelevant{"prefetch", "global L1 L2"},
};

bool has_word(std::string_view list, std::string_view word) {
  const auto found = words(list);
  return std::find(found.begin(), found.end(), word) != found.end();
}

struct Opcode {
  std::string name;
  std::vector<std::string> modifiers;

  // Removes a modifier that is any of these words; empty when there is none.
  std::string take(std::string_view any_of) {
    const auto found = std::find_if(modifiers.begin(), modifiers.end(),
                                    [&](const std::string& m) { return has_word(any_of, m); });
    if (found == modifiers.end()) return "";
    std::string taken = *found;
    modifiers.erase(found);
    return taken;
  }
  std::string key() const {
    std::string joined = name;
    for (const std::string& modifier : modifiers) joined += "." + modifier;
    return joined;
  }
  bool is(std::string_view any_of) const { return has_word(any_of, name); }
};

void drop_irrelevant(Opcode& opcode) {
  for (const Irrelevant& entry : kIrrelevant) {
    if (!opcode.is(entry.opcodes)) continue;
    while (!opcode.take(entry.modifiers).empty()) {
    }
  }
}

Space take_space(Opcode& opcode) {
  const std::string space = opcode.take("global shared shared::cta local param const");
  if (space == "global" || space == "const") return Space::global;
  if (space.starts_with("shared")) return Space::shared;
  if (space == "local") return Space::local;
  if (space == "param") return Space::param;
  return Space::generic;
}

bool is_float_type(std::string_view type) {
  return has_word("f16 bf16 f32 f64", type);
}

// .sat of f32 results is done by the machine. Conversions from float to integer clamp always.
void take_saturation(Opcode& opcode, Instruction& instruction) {
  const auto& modifiers = opcode.modifiers;
  if (modifiers.size() < 2 || !opcode.is("add sub mul fma mad cvt")) return;
  const bool converts = opcode.name == "cvt";
  const std::string result = converts ? modifiers[modifiers.size() - 2] : modifiers.back();
  const std::string source = modifiers.back();
  if (result == "f32") instruction.saturate = !opcode.take("sat").empty();
  if (converts && is_float_type(source) && !is_float_type(result)) opcode.take("sat");
}

class OperandReader {
 public:
  OperandReader(KernelBuilder& kernel, Instruction& instruction, int vector_width)
      : kernel_(kernel), instruction_(instruction), vector_width_(vector_width) {}

  void read(std::string_view pattern, const std::vector<std::string>& operands) {
    std::size_t next = 0;
    bool optional = false;
    for (std::size_t i = 0; i < pattern.size(); ++i) {
      if (pattern[i] == '?') {
        optional = true;
        continue;
      }
      const char kind = pattern[i];
      int width = 1;
      if (i + 1 < pattern.size() &&
          std::string_view("0123456789*+").find(pattern[i + 1]) != std::string_view::npos) {
        const char count = pattern[++i];
        width = count == '*' ? vector_width_ : count == '+' ? 0 : count - '0';
      }
      if (next == operands.size() && optional) break;
      if (next == operands.size()) throw Error(fmt::format("{} operands are too few", next));
      read_one(kind, width, operands[next++]);
    }
    if (next < operands.size())
      throw Error(fmt::format("{} operands are too many", operands.size()));
  }

  const std::string& label() const { return label_; }

 private:
  void read_one(char kind, int width, const std::string& text) {
    switch (kind) {
      case 'd':
        return add_registers(text, width, instruction_.destinations);
      case 's':
        return add_registers(text, width, instruction_.sources);
      case 'D':
        for (const std::string& part : split(text, '|'))
          instruction_.destinations.push_back(kernel_.single_operand(part));
        return;
      case 'p':
        instruction_.source_negated = text.starts_with('!');
        instruction_.sources.push_back(
            kernel_.single_operand(text.substr(instruction_.source_negated ? 1 : 0)));
        return;
      case 'a':
        return read_address(text);
      case 'i':
        if (const auto value = parse_immediate(text)) {
          instruction_.immediate = static_cast<std::int64_t>(*value);
          return;
        }
        throw Error(fmt::format("'{}' is no integer", text));
      case 'l':
        label_ = text;
        return;
      case 'c':
        return read_arguments(text);
      default:
        throw Error("a mistake in the table of instructions");
    }
  }

  // Width 0 is any number of registers.
  void add_registers(const std::string& text, int width, std::vector<int>& to) {
    const std::size_t before = to.size();
    const bool vector = text.starts_with('{') && text.ends_with('}');
    for (const std::string& part :
         vector ? split(std::string_view(text).substr(1, text.size() - 2), ',')
                : std::vector{text}) {
      const std::vector<int> numbers = kernel_.operand(part);
      to.insert(to.end(), numbers.begin(), numbers.end());
    }
    if (const auto count = static_cast<int>(to.size() - before); width != 0 && count != width) {
      throw Error(fmt::format("'{}' is a vector of {}, needed is {}", text, count, width));
    }
  }

  // [register], [register+8], [symbol], [symbol+8], [64]
  void read_address(const std::string& text) {
    if (!text.starts_with('[') || !text.ends_with(']')) {
      throw Error(fmt::format("'{}' is no address", text));
    }
    const std::string inside = trim(std::string_view(text).substr(1, text.size() - 2));
    const std::size_t sign = inside.find_first_of("+-", 1);
    const std::string base = trim(inside.substr(0, sign));
    if (addresses_ == instruction_.offsets.size()) throw Error("too many addresses");
    if (sign != std::string::npos) {
      const auto offset =
          parse_immediate(trim(inside.substr(inside[sign] == '+' ? sign + 1 : sign)));
      if (!offset) throw Error(fmt::format("'{}' is no address", text));
      instruction_.offsets[addresses_] = static_cast<std::int64_t>(*offset);
    }
    ++addresses_;
    instruction_.sources.push_back(kernel_.single_operand(base));
    if (instruction_.space == Space::param && kernel_.is_local(base))
      instruction_.space = Space::local;  // an argument of a call
  }

  void read_arguments(const std::string& text) {
    if (!text.starts_with('(') || !text.ends_with(')'))
      throw Error("arguments without parentheses");
    for (const std::string& name : split(std::string_view(text).substr(1, text.size() - 2), ','))
      instruction_.sources.push_back(kernel_.single_operand(name));
  }

  KernelBuilder& kernel_;
  Instruction& instruction_;
  int vector_width_;
  std::size_t addresses_ = 0;
  std::string label_;
};

// Cuts the guard off: "@!%p1 bra L" becomes "bra L".
std::string take_guard(const std::string& text, KernelBuilder& kernel, Instruction& instruction) {
  if (!text.starts_with('@')) return text;
  const std::size_t end = text.find(' ');
  instruction.guard_negated = text.starts_with("@!");
  const std::size_t begin = instruction.guard_negated ? 2 : 1;
  instruction.guard = kernel.single_operand(text.substr(begin, end - begin));
  return end == std::string::npos ? "" : text.substr(end + 1);
}

// The opcode's key in the table, after what the instruction keeps of its modifiers.
std::string take_key(Opcode opcode, std::vector<std::string>& operands, Instruction& instruction,
                     int& vector_width) {
  if (opcode.is("ld st atom red")) {
    instruction.space = take_space(opcode);
    const bool atomic = opcode.is("atom red");
    instruction.strong = atomic || !opcode.take("volatile relaxed acquire release").empty();
    const std::string vector = opcode.take("v2 v4 v8");
    vector_width = vector.empty() ? 1 : vector[1] - '0';
    if (!opcode.modifiers.empty() && opcode.modifiers.back() == "b128") {
      opcode.modifiers.back() = "b64";  // a register of 128 bits is a pair
      vector_width = 2;
    }
  }
  if (opcode.name == "mov" && operands.size() == 2) {
    if (operands[0].starts_with('{') || opcode.key() == "mov.b128") opcode.name = "unpack";
    if (operands[1].starts_with('{')) opcode.name = "pack";
  }
  if (opcode.name == "call" && !operands.empty()) {
    opcode.modifiers.push_back(operands.front());
    operands.erase(operands.begin());
  }
  drop_irrelevant(opcode);
  take_saturation(opcode, instruction);
  return opcode.key();
}

}  // namespace

void parse_instruction(const std::string& text, int line, SourcePlace place, SourcePlace inlined_at,
                       KernelBuilder& kernel) {
  Instruction instruction;
  instruction.text = text;
  instruction.ptx_line = line;
  instruction.place = place;
  instruction.inlined_at = inlined_at;
  const std::string body = take_guard(text, kernel, instruction);
  const std::size_t end = std::min(body.find(' '), body.size());
  Opcode opcode;
  opcode.modifiers = split(body.substr(0, end), '.');
  if (opcode.modifiers.empty()) throw Error("no instruction");
  opcode.name = opcode.modifiers.front();
  opcode.modifiers.erase(opcode.modifiers.begin());
  std::vector<std::string> operands = split(body.substr(end), ',');

  int vector_width = 1;
  const std::string key = take_key(opcode, operands, instruction, vector_width);
  const auto form = instruction_table().find(key);
  if (form == instruction_table().end()) {
    throw Error(fmt::format("unknown instruction '{}'", body.substr(0, end)));
  }
  OperandReader reader(kernel, instruction, vector_width);
  reader.read(form->second.operands, operands);
  instruction.run = form->second.run;
  instruction.flow = form->second.flow;
  instruction.gather = form->second.gather;
  kernel.add(std::move(instruction), reader.label());
}

}  // namespace lathe::ptx
