// Kernels for tests, from the PTX text of their bodies.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "ptx_machine/machine.h"
#include "ptx_machine/parser.h"

namespace lathe::test {

inline constexpr std::array kPtxOrders = {ptx::Order::forward, ptx::Order::reverse,
                                          ptx::Order::shuffled};

// The body has registers of any type as %p0-9 (predicates) and %r, %s, %x, %y 0-19, and parameters
// `a` and `b`, of 64 bits each. Lines of it are counted from 1, as lines of "test.cu".
inline std::string ptx_module(const std::string& body, const std::string& outside = "") {
  std::string text = ".version 8.0\n.target sm_80\n.address_size 64\n" + outside +
                     "\n.visible .entry kernel(.param .u64 a, .param .u64 b)\n{\n"
                     ".reg .pred %p<10>; .reg .b16 %s<20>; .reg .b32 %r<20>; .reg .b64 %x<20>; "
                     ".reg .b64 %y<20>;\n";
  int line = 1;
  for (std::size_t at = 0; at < body.size(); ++line) {
    const std::size_t end = std::min(body.find('\n', at), body.size());
    text += ".loc 1 " + std::to_string(line) + " 1\n" + body.substr(at, end - at) + "\n";
    at = end + 1;
  }
  return text + "ret;\n}\n.file 1 \"/somewhere/test.cu\"\n";
}

template <class T>
class PtxArray {
 public:
  explicit PtxArray(std::size_t count) : count_(count) {
    memory_ = ptx::machine().memory.allocate(count * sizeof(T));
  }
  explicit PtxArray(const std::vector<T>& values) : PtxArray(values.size()) {
    std::memcpy(memory_, values.data(), count_ * sizeof(T));
  }
  ~PtxArray() { ptx::machine().memory.release(memory_); }
  PtxArray(const PtxArray&) = delete;
  PtxArray& operator=(const PtxArray&) = delete;

  std::uint64_t address() const { return reinterpret_cast<std::uint64_t>(memory_); }
  std::vector<T> values() const {
    std::vector<T> out(count_);
    std::memcpy(out.data(), memory_, count_ * sizeof(T));
    return out;
  }

 private:
  std::size_t count_;
  void* memory_ = nullptr;
};

struct PtxLaunch {
  std::uint32_t blocks = 1, threads = 32;
  std::size_t shared_bytes = 0;
  ptx::Order order = ptx::Order::forward;
};

inline void run_ptx(const ptx::Module& module, const PtxLaunch& how, std::uint64_t a = 0,
                    std::uint64_t b = 0) {
  const std::array<std::uint64_t, 2> parameters = {a, b};
  ptx::machine().options.order = how.order;
  ptx::launch(module.kernels.at("kernel"),
              {{how.blocks, 1, 1}, {how.threads, 1, 1}, how.shared_bytes}, parameters.data());
}

// What the machine says against a call; empty when nothing.
template <class Call>
std::string ptx_error(const Call& call) {
  try {
    call();
  } catch (const ptx::Error& error) {
    return error.what();
  }
  return "";
}

inline testing::AssertionResult contains(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "'" << text << "' does not contain '" << part << "'";
}

}  // namespace lathe::test
