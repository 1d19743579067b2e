#include "cpu_backend.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <dnnl.hpp>

#include <algorithm>
#include <cstring>

#include "lathe/error.h"
#include "matmul.h"

namespace lathe {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::string instruction_set() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::avx512_core_amx:
      return "avx512 with amx";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512 with bf16";
    case dnnl::cpu_isa::avx512_core:
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512";
    default:
      return "avx2";
  }
}

}  // namespace

CpuBackend::CpuBackend(int threads) : team_(threads), matmul_(std::make_unique<Matmul>(team_)) {}

CpuBackend::~CpuBackend() = default;

std::string CpuBackend::description() const {
  return fmt::format("cpu, {} thread{}, {}", threads(), threads() == 1 ? "" : "s",
                     instruction_set());
}

// Fresh anonymous pages are zero and cost nothing until they are touched. Large buffers start on a
// huge page: GPT-2's matrices span thousands of small ones.
Buffer CpuBackend::allocate(std::int64_t bytes) {
  const bool huge = bytes >= std::int64_t{kHugePage};
  std::size_t mapped = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1));
  if (huge) mapped += kHugePage;
  void* memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw Error(ExitCode::out_of_memory,
                fmt::format("cannot allocate {} bytes of memory: use a smaller --micro-batch, "
                            "--seq-len or model, or --recompute block",
                            bytes));
  }
  auto* start = static_cast<std::byte*>(memory);
  if (huge) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory);
    start += (kHugePage - address % kHugePage) % kHugePage;
    madvise(start, static_cast<std::size_t>(bytes), MADV_HUGEPAGE);  // a wish: may be refused
  }
  return Buffer(start, [memory, mapped](std::byte*) { munmap(memory, mapped); });
}

void CpuBackend::upload(const Tensor& to, const void* from) {
  std::memcpy(to.data(), from, static_cast<std::size_t>(to.bytes()));
}

void CpuBackend::download(void* to, const Tensor& from) {
  std::memcpy(to, from.data(), static_cast<std::size_t>(from.bytes()));
}

std::unique_ptr<Backend> make_cpu_backend(int threads) {
  return std::make_unique<CpuBackend>(threads);
}

}  // namespace lathe
