#include "fat_binary.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "machine.h"
#include "parser.h"

namespace lathe::ptx {
namespace {

// NVIDIA documents neither structure; they have been stable for years. Little-endian.
struct Header {
  std::uint32_t magic;
  std::uint16_t version, header_bytes;
  std::uint64_t bytes;  // of the entries that follow
};
struct Entry {
  std::uint16_t kind, version;
  std::uint32_t header_bytes;
  std::uint64_t bytes;  // of the content
};
constexpr std::uint32_t kMagic = 0xba55ed50;
constexpr std::uint16_t kPtxKind = 1;

template <class T>
T read(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

}  // namespace

int target_architecture(const std::string& ptx) {
  const std::size_t target = ptx.find(".target sm_");
  if (target == std::string::npos) throw Error("PTX without .target");
  return std::atoi(ptx.c_str() + target + std::strlen(".target sm_"));
}

FatBinary::FatBinary(const std::vector<std::string>& ptx) {
  for (const std::string& text : ptx) add(text);
}

FatBinary::FatBinary(const void* data) {
  const char* begin = static_cast<const char*>(data);
  const auto header = read<Header>(begin);
  if (header.magic != kMagic) throw Error("an unknown kind of fat binary");
  const char* at = begin + header.header_bytes;
  for (const char* end = at + header.bytes; at < end;) {
    const auto entry = read<Entry>(at);
    const char* content = at + entry.header_bytes;
    at = content + entry.bytes;
    if (entry.kind != kPtxKind) continue;
    std::string text(content, strnlen(content, entry.bytes));
    if (text.find(".version") == std::string::npos)
      throw Error("compressed PTX: nvcc needs -Xfatbin=-compress=false");
    add(std::move(text));
  }
  if (by_architecture_.empty())
    throw Error("no PTX: nvcc needs -gencode arch=...,code=compute_...");
}

void FatBinary::add(std::string ptx) {
  by_architecture_[target_architecture(ptx)] = std::move(ptx);
}

const std::string& FatBinary::wanted_ptx() const {
  auto image = std::prev(by_architecture_.end());
  if (const char* wanted = std::getenv("LATHE_PTX_ARCH")) {
    image = by_architecture_.find(std::atoi(wanted));
    if (image == by_architecture_.end()) {
      std::vector<int> present;
      for (const auto& [architecture, text] : by_architecture_) present.push_back(architecture);
      throw Error(fmt::format("LATHE_PTX_ARCH is {}, there is PTX for {}", wanted,
                              fmt::join(present, ", ")));
    }
  }
  return image->second;
}

Module& FatBinary::module() {
  const auto any = modules_.begin();
  if (any != modules_.end() && any->second.variables.empty()) return any->second;
  const int device = machine().device;
  const auto found = modules_.find(device);
  if (found != modules_.end()) return found->second;
  return modules_.emplace(device, parse(wanted_ptx())).first->second;
}

}  // namespace lathe::ptx
