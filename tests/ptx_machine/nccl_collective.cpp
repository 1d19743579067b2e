#include "nccl_collective.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "half.h"
#include "runtime_state.h"

namespace lathe::ptx {
namespace {

struct Bf16 {
  std::uint16_t bits;
};

// Calls visit(std::type_identity<T>{}); false when the type is not known here.
template <class Visit>
bool with_type(ncclDataType_t type, const Visit& visit) {
  switch (type) {
    case ncclUint8:
      visit(std::type_identity<std::uint8_t>{});
      return true;
    case ncclFloat32:
      visit(std::type_identity<float>{});
      return true;
    case ncclFloat64:
      visit(std::type_identity<double>{});
      return true;
    case ncclBfloat16:
      visit(std::type_identity<Bf16>{});
      return true;
    default:
      return false;
  }
}

std::size_t element_bytes(ncclDataType_t type) {
  std::size_t bytes = 0;
  with_type(type, [&](auto identity) { bytes = sizeof(typename decltype(identity)::type); });
  return bytes;
}

const char* name_of(CollectiveKind kind) {
  constexpr const char* kNames[] = {"reduce-scatter", "all-gather", "all-reduce", "reduce",
                                    "broadcast"};
  return kNames[static_cast<int>(kind)];
}

std::string describe(const CollectiveShape& shape) {
  return fmt::format("{} of {} elements of type {}, operation {}, root {}", name_of(shape.kind),
                     shape.count, static_cast<int>(shape.type), static_cast<int>(shape.operation),
                     shape.root);
}

bool has_root(CollectiveKind kind) {
  return kind == CollectiveKind::reduce || kind == CollectiveKind::broadcast;
}

bool reduces(CollectiveKind kind) {
  return kind != CollectiveKind::all_gather && kind != CollectiveKind::broadcast;
}

std::size_t send_bytes(const CollectiveShape& shape, int rank, int ranks) {
  if (shape.kind == CollectiveKind::broadcast && rank != shape.root) return 0;
  const std::size_t parts =
      shape.kind == CollectiveKind::reduce_scatter ? static_cast<std::size_t>(ranks) : 1;
  return parts * shape.count * element_bytes(shape.type);
}

std::size_t receive_bytes(const CollectiveShape& shape, int rank, int ranks) {
  if (shape.kind == CollectiveKind::reduce && rank != shape.root) return 0;
  const std::size_t parts =
      shape.kind == CollectiveKind::all_gather ? static_cast<std::size_t>(ranks) : 1;
  return parts * shape.count * element_bytes(shape.type);
}

// Of two buffers that share memory: the only way in which they may.
bool is_in_place(const Collective& collective, int rank) {
  const std::size_t own = static_cast<std::size_t>(rank) * collective.shape.count *
                          element_bytes(collective.shape.type);
  if (collective.shape.kind == CollectiveKind::reduce_scatter)
    return collective.receive == collective.send + own;
  if (collective.shape.kind == CollectiveKind::all_gather)
    return collective.send == collective.receive + own;
  return collective.send == collective.receive;
}

template <class T>
T combine(T a, T b, ncclRedOp_t operation) {
  return operation == ncclMax ? std::max(a, b) : static_cast<T>(a + b);
}

Bf16 combine(Bf16 a, Bf16 b, ncclRedOp_t operation) {
  const double x = from_half<Bf16Format>(a.bits), y = from_half<Bf16Format>(b.bits);
  return {to_half<Bf16Format>(operation == ncclMax ? std::max(x, y) : x + y)};
}

// In the order of ranks, rounded to the type after each.
template <class T>
void reduce(const CollectiveShape& shape, const NcclExchange& exchange, std::size_t offset,
            std::size_t count, std::uint8_t* out) {
  for (std::size_t i = 0; i < count; ++i) {
    T result{};
    for (int rank = 0; rank < exchange.ranks(); ++rank) {
      T value;
      std::memcpy(&value, exchange.slot(rank) + offset + i * sizeof(T), sizeof(T));
      result = rank == 0 ? value : combine(result, value, shape.operation);
    }
    std::memcpy(out + i * sizeof(T), &result, sizeof(T));
  }
}

// Elements [begin, begin + count) of every part, which are in the slots.
void receive(const Collective& collective, const NcclExchange& exchange, std::size_t begin,
             std::size_t count) {
  const CollectiveShape& shape = collective.shape;
  const std::size_t element = element_bytes(shape.type), bytes = count * element;
  std::uint8_t* out = collective.receive + begin * element;
  if (shape.kind == CollectiveKind::broadcast) {
    std::memcpy(out, exchange.slot(shape.root), bytes);
  } else if (shape.kind == CollectiveKind::all_gather) {
    for (int rank = 0; rank < exchange.ranks(); ++rank) {
      std::memcpy(out + static_cast<std::size_t>(rank) * shape.count * element, exchange.slot(rank),
                  bytes);
    }
  } else if (shape.kind != CollectiveKind::reduce || exchange.rank() == shape.root) {
    const bool scatters = shape.kind == CollectiveKind::reduce_scatter;
    const std::size_t offset = scatters ? static_cast<std::size_t>(exchange.rank()) * bytes : 0;
    with_type(shape.type, [&](auto identity) {
      reduce<typename decltype(identity)::type>(shape, exchange, offset, count, out);
    });
  }
}

void send(const Collective& collective, const NcclExchange& exchange, std::size_t begin,
          std::size_t count) {
  const CollectiveShape& shape = collective.shape;
  if (shape.kind == CollectiveKind::broadcast && exchange.rank() != shape.root) return;
  const std::size_t element = element_bytes(shape.type), bytes = count * element;
  const int parts = shape.kind == CollectiveKind::reduce_scatter ? exchange.ranks() : 1;
  for (int i = 0; i < parts; ++i) {
    const auto part = static_cast<std::size_t>(i);
    std::memcpy(exchange.slot(exchange.rank()) + part * bytes,
                collective.send + (part * shape.count + begin) * element, bytes);
  }
}

void compare_shapes(const NcclExchange& exchange) {
  const CollectiveShape& own = exchange.shape(exchange.rank());
  for (int rank = 0; rank < exchange.ranks(); ++rank) {
    if (exchange.shape(rank) == own) continue;
    throw Error(fmt::format("rank {} has a {}, rank {} a {}", exchange.rank(), describe(own), rank,
                            describe(exchange.shape(rank))));
  }
}

std::string find_fault_of_memory(const char* name, const std::uint8_t* memory, std::size_t bytes,
                                 std::size_t element) {
  if (bytes == 0) return "";
  if (!machine().memory.contains(memory, bytes)) {
    return fmt::format("the {} buffer: {} bytes that are not all allocated on device {}", name,
                       bytes, machine().device);
  }
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(memory) % element == 0;
  return is_aligned ? "" : fmt::format("the {} buffer is not aligned to its elements", name);
}

}  // namespace

std::string find_fault(const Collective& collective, int rank, int ranks) {
  const CollectiveShape& shape = collective.shape;
  const std::size_t element = element_bytes(shape.type);
  if (element == 0) return fmt::format("type {} is not known here", static_cast<int>(shape.type));
  if (reduces(shape.kind) && shape.operation != ncclSum && shape.operation != ncclMax)
    return fmt::format("operation {} is not known here", static_cast<int>(shape.operation));
  if (has_root(shape.kind) && (shape.root < 0 || shape.root >= ranks))
    return fmt::format("root {} of {} ranks", shape.root, ranks);
  if (collective.stream->captured) return "collectives in a capture are not known here";
  if (collective.stream->device != machine().device) {
    return fmt::format("a stream of device {}, the communicator is on {}",
                       collective.stream->device, machine().device);
  }
  if (shape.count > std::uint64_t{1} << 40) return fmt::format("{} elements", shape.count);
  const std::size_t sent = send_bytes(shape, rank, ranks);
  const std::size_t received = receive_bytes(shape, rank, ranks);
  std::string fault = find_fault_of_memory("send", collective.send, sent, element);
  if (fault.empty()) fault = find_fault_of_memory("receive", collective.receive, received, element);
  const bool overlap = collective.send < collective.receive + received &&
                       collective.receive < collective.send + sent;
  if (fault.empty() && overlap && !is_in_place(collective, rank))
    fault = "send and receive buffers overlap and are not in place";
  return fault;
}

std::string begin(const Collective& collective, int rank, int ranks) {
  begin(collective.turn);
  const char* name = name_of(collective.shape.kind);
  const cudaError_t raced = runtime().use(
      name, {{collective.send, send_bytes(collective.shape, rank, ranks), Use::read},
             {collective.receive, receive_bytes(collective.shape, rank, ranks), Use::write}});
  return raced == cudaSuccess ? "" : runtime().device().sticky_detail;
}

bool perform(const Collective& collective, NcclExchange& exchange,
             const std::atomic<bool>& gives_up) {
  const CollectiveShape& shape = collective.shape;
  exchange.shape(exchange.rank()) = shape;
  const bool scatters = shape.kind == CollectiveKind::reduce_scatter;
  const std::size_t parts = scatters ? static_cast<std::size_t>(exchange.ranks()) : 1;
  const std::size_t most = NcclExchange::kSlotBytes / parts / element_bytes(shape.type);
  for (std::size_t begin = 0; begin < shape.count; begin += most) {
    const std::size_t count = std::min(most, shape.count - begin);
    send(collective, exchange, begin, count);
    if (!exchange.meet(gives_up)) return false;
    if (begin == 0) compare_shapes(exchange);
    receive(collective, exchange, begin, count);
    if (!exchange.meet(gives_up)) return false;
  }
  return true;
}

void spoil(const Collective& collective, int rank, int ranks) {
  std::memset(collective.receive, kFreshByte, receive_bytes(collective.shape, rank, ranks));
}

}  // namespace lathe::ptx
