// Where the ranks of a communicator meet: a file in memory that all of them map, threads of one
// process or several processes of one machine.
#pragma once

#include <nccl.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace lathe::ptx {

constexpr int kMostRanks = 64;

enum class CollectiveKind : int { reduce_scatter, all_gather, all_reduce, reduce, broadcast };

// What every rank must say of a collective alike.
struct CollectiveShape {
  CollectiveKind kind;
  ncclDataType_t type;
  ncclRedOp_t operation;
  int root;
  std::uint64_t count;
  bool operator==(const CollectiveShape&) const = default;
};

class NcclExchange {
 public:
  // A file name that nobody else has.
  static std::string new_name();

  // Throws Error when there is no such place, or another rank says something else of the whole.
  NcclExchange(const std::string& name, int rank, int ranks, int device);
  ~NcclExchange();
  NcclExchange(const NcclExchange&) = delete;
  NcclExchange& operator=(const NcclExchange&) = delete;

  int rank() const { return rank_; }
  int ranks() const { return ranks_; }

  // Waits until every rank has come here as often as this one. False when it gave up before.
  bool meet(const std::atomic<bool>& gives_up);

  // After the first meeting. Throws Error when two ranks have the same device.
  void check_devices() const;

  // What a rank passes to the others between two meetings.
  CollectiveShape& shape(int rank) const;
  std::uint8_t* slot(int rank) const;
  static constexpr std::size_t kSlotBytes = std::size_t{256} << 10;

  // The file has no name from here on, and is gone when the last rank is.
  void remove_name() const;

 private:
  struct Header;

  std::string name_;
  int rank_, ranks_;
  std::size_t bytes_;
  Header* header_ = nullptr;
  std::uint64_t meetings_ = 0;
};

}  // namespace lathe::ptx
