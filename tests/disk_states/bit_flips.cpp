#include "bit_flips.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <stdexcept>

#include "lathe/checkpoint.h"
#include "lathe/files.h"
#include "support/error_of.h"
#include "support/temp_dir.h"

namespace lathe::test {
namespace {

namespace fs = std::filesystem;

// Changes bytes of a file in place.
class Patch {
 public:
  explicit Patch(const fs::path& path) : file_(::open(path.c_str(), O_WRONLY | O_CLOEXEC)) {}
  void put(std::uint64_t at, std::string_view bytes) const {
    if (::pwrite(file_.number(), bytes.data(), bytes.size(), static_cast<off_t>(at)) !=
        static_cast<ssize_t>(bytes.size())) {
      throw std::runtime_error("a byte cannot be changed");
    }
  }
  void cut(std::uint64_t length) const {
    if (::ftruncate(file_.number(), static_cast<off_t>(length)) != 0) {
      throw std::runtime_error("a file cannot be cut");
    }
  }

 private:
  FileDescriptor file_;
};

class DamageCheck {
 public:
  explicit DamageCheck(const DamageSpec& spec) : spec_(spec), random_(spec.seed) {}

  void check_file(const fs::path& path) {
    const std::string whole = read_file(path);
    const std::size_t header = header_bytes(path, whole);
    const Patch patch(path);
    const std::string name = path.filename().string();
    const auto stride = static_cast<std::size_t>(spec_.stride);
    for (std::size_t bit = 0; bit < 8 * header; bit += stride) {
      flip(patch, whole, bit);
      count("bits of " + name + (header < whole.size() ? "'s header" : ""), path);
      patch.put(bit / 8, whole.substr(bit / 8, 1));
    }
    for (std::size_t length = whole.size(); length-- > 0;) {
      if (length % stride != 0) continue;
      patch.cut(length);
      count("lengths of " + name, path);
    }
    patch.put(0, whole);
  }
  void check_payload(const std::vector<fs::path>& paths) {
    for (std::int64_t i = 0; i < spec_.payload_flips; ++i) {
      const fs::path& path = paths[static_cast<std::size_t>(i) % paths.size()];
      const std::string whole = read_file(path);
      const std::size_t header = header_bytes(path, whole);
      const Patch patch(path);
      const std::size_t bit =
          std::uniform_int_distribution<std::size_t>(8 * header, 8 * whole.size() - 1)(random_);
      flip(patch, whole, bit);
      count("bits of tensors", path);
      patch.put(bit / 8, whole.substr(bit / 8, 1));
    }
  }
  // Without damage nothing is found.
  void check_whole() {
    const std::string error = error_of([&] { open_checkpoint(spec_.checkpoint); });
    if (!error.empty()) ++report_.problems["whole, but refused: " + error];
    ++report_.cases;
    if (error.empty()) ++report_.found;
  }
  static std::size_t header_bytes(const fs::path& path, const std::string& whole) {
    if (path.extension() != ".safetensors") return whole.size();
    std::uint64_t length = 0;
    std::memcpy(&length, whole.data(), sizeof length);
    return sizeof length + static_cast<std::size_t>(length);
  }
  const DamageReport& report() const { return report_; }

 private:
  static void flip(const Patch& patch, const std::string& whole, std::size_t bit) {
    const char damaged = static_cast<char>(whole[bit / 8] ^ 1 << bit % 8);
    patch.put(bit / 8, {&damaged, 1});
  }
  void count(const std::string& kind, const fs::path& path) {
    const std::string error = error_of([&] { open_checkpoint(spec_.checkpoint); });
    ++report_.cases;
    ++report_.by_kind[kind];
    if (error.starts_with("exit 4: " + path.string() + ": ")) {
      ++report_.found;
    } else {
      ++report_.problems[kind + ": " + (error.empty() ? "not found" : error)];
    }
  }

  const DamageSpec& spec_;
  std::mt19937_64 random_;
  DamageReport report_;
};

}  // namespace

DamageReport check_damage(const DamageSpec& spec) {
  std::vector<fs::path> files, tensors;
  for (const auto& entry : fs::directory_iterator(spec.checkpoint)) {
    files.push_back(entry.path());
    if (entry.path().extension() == ".safetensors") tensors.push_back(entry.path());
  }
  DamageCheck check(spec);
  check.check_whole();
  for (const fs::path& path : files) check.check_file(path);
  check.check_payload(tensors);
  check.check_whole();
  return check.report();
}

}  // namespace lathe::test
