#include "nccl_exchange.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <random>
#include <thread>

#include "program.h"

namespace lathe::ptx {
namespace {

// So long that a rank which computes is not disturbed, so short that few notice it.
constexpr auto kNap = std::chrono::microseconds(100);
constexpr int kYields = 100;  // before the first nap

std::string folder() {
  const std::string memory = "/dev/shm";
  return access(memory.c_str(), W_OK) == 0 ? memory
                                           : std::filesystem::temp_directory_path().string();
}

}  // namespace

// Fresh files are all zeros.
struct NcclExchange::Header {
  std::atomic<int> ranks;
  struct Rank {
    alignas(64) std::atomic<std::uint64_t> meetings;
    std::atomic<int> device_and_one;  // 0: has not come
    CollectiveShape shape;
  };
  std::array<Rank, kMostRanks> each;

  Rank& of(int rank) { return each[static_cast<std::size_t>(rank)]; }
};

std::string NcclExchange::new_name() {
  std::random_device random;
  return fmt::format("{}/ptx_nccl_{:08x}{:08x}", folder(), random(), random());
}

NcclExchange::NcclExchange(const std::string& name, int rank, int ranks, int device)
    : name_(name),
      rank_(rank),
      ranks_(ranks),
      bytes_(sizeof(Header) + static_cast<std::size_t>(ranks) * kSlotBytes) {
  const int file = open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) throw Error(fmt::format("cannot open {}", name));
  const bool is_sized = ftruncate(file, static_cast<off_t>(bytes_)) == 0;
  void* memory =
      is_sized ? mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
  close(file);
  if (memory == MAP_FAILED) throw Error(fmt::format("cannot map {} bytes of {}", bytes_, name));
  header_ = static_cast<Header*>(memory);
  int others = 0;
  if (!header_->ranks.compare_exchange_strong(others, ranks) && others != ranks)
    throw Error(fmt::format("rank {} says {} ranks, another one {}", rank, ranks, others));
  int absent = 0;
  if (!header_->of(rank).device_and_one.compare_exchange_strong(absent, device + 1))
    throw Error(fmt::format("rank {} is there already", rank));
}

NcclExchange::~NcclExchange() {
  if (header_ != nullptr) munmap(header_, bytes_);
}

bool NcclExchange::meet(const std::atomic<bool>& gives_up) {
  header_->of(rank_).meetings = ++meetings_;
  int waits = 0;
  for (int other = 0; other < ranks_;) {
    if (header_->of(other).meetings >= meetings_) {
      ++other;
    } else if (gives_up) {
      return false;
    } else if (++waits < kYields) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
  }
  return true;
}

void NcclExchange::check_devices() const {
  for (int a = 0; a < ranks_; ++a) {
    for (int b = a + 1; b < ranks_; ++b) {
      const int device = header_->of(a).device_and_one - 1;
      if (header_->of(b).device_and_one - 1 == device)
        throw Error(
            fmt::format("duplicate GPU: ranks {} and {} both have device {}", a, b, device));
    }
  }
}

CollectiveShape& NcclExchange::shape(int rank) const {
  return header_->of(rank).shape;
}

std::uint8_t* NcclExchange::slot(int rank) const {
  return reinterpret_cast<std::uint8_t*>(header_ + 1) + static_cast<std::size_t>(rank) * kSlotBytes;
}

void NcclExchange::remove_name() const {
  unlink(name_.c_str());
}

}  // namespace lathe::ptx
