#include "mutations.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <random>

namespace lathe::fuzz {
namespace {

// Where readers change their minds: signs, ends of ranges, and what formats are made of.
constexpr std::array<std::uint64_t, 10> kNumbers = {0,
                                                    1,
                                                    0x7f,
                                                    0xffff,
                                                    0x7fffffff,
                                                    0x80000000,
                                                    0xffffffff,
                                                    0x7fffffffffffffff,
                                                    0x8000000000000000,
                                                    0xffffffffffffffff};
constexpr std::string_view kBytes("\0\x01\x7f\x80\xff\n\r\t \"\\{}[],:=#.-0e'", 24);

class Mutator {
 public:
  Mutator(std::string bytes, const std::string& other, std::uint32_t seed)
      : bytes_(std::move(bytes)), other_(other), random_(seed) {}

  std::string run() {
    const std::size_t changes = 1 + below(4);
    for (std::size_t i = 0; i < changes; ++i) change();
    return std::move(bytes_);
  }

 private:
  // Not a std::uniform_int_distribution: libraries differ in those.
  std::size_t below(std::size_t n) { return n == 0 ? 0 : random_() % n; }

  void change() {
    if (bytes_.empty()) bytes_ = " ";
    const std::size_t at = below(bytes_.size());
    const std::size_t length = 1 + below(std::min<std::size_t>(bytes_.size() - at, 16));
    switch (below(6)) {
      case 0:
        bytes_[at] = static_cast<char>(bytes_[at] ^ 1 << below(8));
        break;
      case 1:
        bytes_[at] = kBytes[below(kBytes.size())];
        break;
      case 2:
        put_number(at);
        break;
      case 3:
        bytes_.erase(at, length);
        break;
      case 4:
        bytes_.insert(below(bytes_.size()), bytes_.substr(at, length));
        break;
      default:
        bytes_ = bytes_.substr(0, at) + other_.substr(below(other_.size()));
    }
  }

  void put_number(std::size_t at) {
    const std::uint64_t number = kNumbers[below(kNumbers.size())];
    const std::size_t width = std::min(std::size_t{1} << below(4), bytes_.size() - at);
    std::memcpy(bytes_.data() + at, &number, width);
  }

  std::string bytes_;
  const std::string& other_;
  std::mt19937 random_;
};

}  // namespace

std::string mutated(const std::string& bytes, const std::string& other, std::uint32_t seed) {
  return Mutator(bytes, other, seed).run();
}

}  // namespace lathe::fuzz
