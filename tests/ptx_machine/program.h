// What the parser makes of PTX text, and the machine runs.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace lathe::ptx {

// Anything wrong with the PTX, or with what a kernel does when it runs.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

constexpr int kWarpSize = 32;
constexpr std::uint32_t kAllLanes = 0xffffffffu;

struct Warp;
struct Instruction;

// Executes an instruction for the lanes whose bit is set.
using Handler = void (*)(Warp&, const Instruction&, std::uint32_t lanes);

enum class Space : std::uint8_t { generic, global, shared, local, param };

// What the machine itself does about an instruction: barrier waits for the others; arrive only
// tells them.
enum class Flow : std::uint8_t { next, branch, exit, barrier, arrive };

// Whether lanes that arrive apart must be brought together first, and which: all 32, or those in
// the mask that is the last source operand.
enum class Gather : std::uint8_t { none, all, masked };

// A place in the CUDA source (.loc). File 0 is none.
struct SourcePlace {
  int file = 0;
  int line = 0;
};

// Operands are numbers of registers; immediates and special registers have registers of their own,
// so that a handler sees one kind of operand only.
struct Instruction {
  Handler run = nullptr;
  Flow flow = Flow::next;
  Gather gather = Gather::none;
  Space space = Space::generic;
  bool strong = false;          // volatile, relaxed, ...: may meet other strong accesses
  bool saturate = false;        // clamps its float result to [0, 1]
  bool guard_negated = false;   // @!p
  bool source_negated = false;  // the predicate operand of setp and vote
  int guard = -1;               // predicate register
  int target = -1;              // of a branch
  std::int64_t immediate = 0;
  std::array<std::int64_t, 2> offsets{};  // of the address operands
  std::vector<int> destinations, sources;
  int ptx_line = 0;
  SourcePlace place, inlined_at;
  std::string text;
};

struct Parameter {
  std::string name;
  int offset, bytes;
};

// A register that holds the same value in every lane.
struct Constant {
  int number;
  std::uint64_t value;
  bool in_dynamic_shared;  // value counts from the start of dynamic shared memory
};

enum class Special : std::uint8_t {
  tid_x,
  tid_y,
  tid_z,
  ntid_x,
  ntid_y,
  ntid_z,
  ctaid_x,
  ctaid_y,
  ctaid_z,
  nctaid_x,
  nctaid_y,
  nctaid_z,
  laneid,
  warpid,
  nwarpid,
  smid,
  lanemask_eq,
  lanemask_lt,
  lanemask_le,
  lanemask_gt,
  lanemask_ge,
  dynamic_smem_size,
  total_smem_size,
};

struct SpecialRegister {
  int number;
  Special what;
};

struct Kernel {
  std::string name;
  std::vector<Parameter> parameters;
  int parameter_bytes = 0;
  int registers = 0;
  std::vector<Constant> constants;
  std::vector<SpecialRegister> specials;
  int static_shared_bytes = 0;
  int dynamic_shared_alignment = 16;
  int local_bytes = 0;  // of one thread
  int max_threads = 1024;
  std::vector<Instruction> code;
  std::shared_ptr<const std::map<int, std::string>> files;

  // Where dynamic shared memory begins.
  int dynamic_shared_begin() const {
    const int mask = dynamic_shared_alignment - 1;
    return (static_shared_bytes + mask) & ~mask;
  }
};

// Device memory of a module's variables.
struct Variable {
  void* memory;
  std::size_t bytes;
};

struct Module {
  std::map<std::string, Kernel> kernels;
  std::map<std::string, Variable> variables;
};

}  // namespace lathe::ptx
