// Stands in for NCCL: the calls that Lathe makes, between threads and between processes of one
// machine. It refuses what NCCL refuses, and what it would hang or go wrong about: collectives that
// differ between ranks, and buffers that are not allocated.
#include <fmt/format.h>

#include <cstring>

#include "nccl_communicator.h"
#include "nccl_loader.h"

namespace lathe::ptx {
namespace {

using Pending = std::pair<std::shared_ptr<NcclCommunicator>, std::shared_ptr<Collective>>;

struct Group {
  int depth = 0;
  std::vector<Pending> given;
  ncclResult_t result = ncclSuccess;  // the first that was refused
};

Group& this_group() {
  thread_local Group group;
  return group;
}

std::string& last_problem() {
  thread_local std::string problem;
  return problem;
}

ncclResult_t refuse(ncclResult_t result, const std::string& problem) {
  last_problem() = problem;
  if (this_group().depth > 0 && this_group().result == ncclSuccess) this_group().result = result;
  return result;
}

using Communicators = std::map<ncclComm_t, std::shared_ptr<NcclCommunicator>>;

// Never destroyed, as runtime() is not: the program may end without having destroyed them.
Communicators& communicators() {
  static Communicators& all = *new Communicators;
  return all;
}

std::shared_ptr<NcclCommunicator> find(ncclComm_t handle) {
  const auto found = communicators().find(handle);
  if (found != communicators().end()) return found->second;
  refuse(ncclInvalidArgument, "a communicator that there is not");
  return nullptr;
}

std::shared_ptr<NcclCommunicator> take(ncclComm_t handle) {
  const Call call;
  auto taken = find(handle);
  communicators().erase(handle);
  return taken;
}

ncclResult_t give(const std::shared_ptr<NcclCommunicator>& communicator,
                  std::vector<std::shared_ptr<Collective>> collectives) {
  const int device = std::exchange(machine().device, communicator->device());
  communicator->give(std::move(collectives));
  machine().device = device;
  const ncclResult_t state = communicator->state();
  if (state != ncclSuccess && state != ncclInProgress) last_problem() = communicator->problem();
  return state;
}

// Why a communicator cannot be used now, or success.
ncclResult_t refuse_use(const NcclCommunicator& communicator) {
  const ncclResult_t state = communicator.state();
  if (communicator.is_finalized())
    return refuse(ncclInvalidArgument, "a communicator that was finalized");
  if (state == ncclInProgress) {
    return refuse(ncclInvalidArgument,
                  "a communicator used before ncclCommGetAsyncError said that what came before is "
                  "no longer in progress");
  }
  return state == ncclSuccess ? state : refuse(state, communicator.problem());
}

ncclResult_t start(const CollectiveShape& shape, const void* from, void* to, ncclComm_t handle,
                   cudaStream_t stream_handle) {
  const Call call;
  const auto communicator = find(handle);
  if (communicator == nullptr) return ncclInvalidArgument;
  if (const ncclResult_t result = refuse_use(*communicator); result != ncclSuccess) return result;
  const int device = std::exchange(machine().device, communicator->device());
  Stream* stream = runtime().find(stream_handle);
  const auto collective =
      std::make_shared<Collective>(Collective{shape,
                                              static_cast<const std::uint8_t*>(from),
                                              static_cast<std::uint8_t*>(to),
                                              stream,
                                              {},
                                              false,
                                              false});
  const std::string fault =
      stream == nullptr ? "a stream that there is not"
                        : find_fault(*collective, communicator->rank(), communicator->ranks());
  machine().device = device;
  if (!fault.empty()) return refuse(ncclInvalidArgument, fault);
  if (shape.count == 0) return ncclSuccess;
  if (this_group().depth == 0) return give(communicator, {collective});
  this_group().given.emplace_back(communicator, collective);
  return ncclSuccess;
}

// What of a configuration is not as ncclConfig_t's initializer makes it, but for blocking.
bool is_valid(const ncclConfig_t& config) {
  const ncclConfig_t made = NCCL_CONFIG_INITIALIZER;
  const bool known =
      config.blocking == 0 || config.blocking == 1 || config.blocking == NCCL_CONFIG_UNDEF_INT;
  return config.size == made.size && config.magic == made.magic && known;
}

}  // namespace
}  // namespace lathe::ptx

namespace lathe::cuda {

std::string nccl_load_problem() {
  return "";
}

}  // namespace lathe::cuda

using namespace lathe::ptx;

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const std::string name = NcclExchange::new_name();
  if (name.size() >= sizeof(id->internal)) return refuse(ncclSystemError, name + " is too long");
  *id = {};
  std::memcpy(id->internal, name.data(), name.size());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* handle, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  *handle = nullptr;
  if (config != nullptr && !is_valid(*config))
    return refuse(ncclInvalidArgument, "a configuration that NCCL_CONFIG_INITIALIZER did not make");
  if (ranks < 1 || ranks > kMostRanks || rank < 0 || rank >= ranks)
    return refuse(ncclInvalidArgument, fmt::format("rank {} of {}", rank, ranks));
  if (this_group().depth > 0)
    return refuse(ncclInvalidUsage, "communicators made in a group are not known here");
  id.internal[sizeof(id.internal) - 1] = '\0';
  const bool blocks = config == nullptr || config->blocking != 0;
  Call call;
  if (runtime().visible.empty()) return refuse(ncclUnhandledCudaError, "no device");
  const auto made = std::make_shared<NcclCommunicator>(id.internal, rank, ranks, blocks);
  *handle = reinterpret_cast<ncclComm_t>(made.get());
  communicators().emplace(*handle, made);
  if (!blocks) return ncclInProgress;
  call.wait([&] { return made->is_joined(); });
  const ncclResult_t state = made->state();
  return state == ncclSuccess ? state : refuse(state, made->problem());
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t* state) {
  const Call call;
  const auto communicator = find(handle);
  if (communicator == nullptr) return ncclInvalidArgument;
  *state = communicator->ask();
  if (*state != ncclSuccess && *state != ncclInProgress) last_problem() = communicator->problem();
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t handle) {
  const auto communicator = take(handle);
  if (communicator == nullptr) return ncclInvalidArgument;
  communicator->end();
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t handle) {
  Call call;
  const auto communicator = find(handle);
  if (communicator == nullptr) return ncclInvalidArgument;
  if (const ncclResult_t result = refuse_use(*communicator); result != ncclSuccess) return result;
  communicator->finalize();
  if (communicator->blocks()) call.wait([&] { return communicator->is_quiet(); });
  return communicator->state();
}

// Waits for what is on its way, however long: ncclCommAbort does not.
ncclResult_t ncclCommDestroy(ncclComm_t handle) {
  {
    Call call;
    const auto communicator = find(handle);
    if (communicator == nullptr) return ncclInvalidArgument;
    call.wait([&] { return communicator->is_joined(); });
    communicator->enqueue();
    call.wait([&] { return communicator->is_quiet(); });
  }
  return ncclCommAbort(handle);
}

ncclResult_t ncclCommCount(ncclComm_t handle, int* count) {
  const Call call;
  const auto communicator = find(handle);
  if (communicator == nullptr) return ncclInvalidArgument;
  *count = communicator->ranks();
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(ncclComm_t handle, int* rank) {
  const Call call;
  const auto communicator = find(handle);
  if (communicator == nullptr) return ncclInvalidArgument;
  *rank = communicator->rank();
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++this_group().depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  Group& group = this_group();
  if (group.depth == 0) return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
  if (--group.depth > 0) return ncclSuccess;
  const Group ended = std::exchange(group, {});
  if (ended.result != ncclSuccess) return ended.result;
  const Call call;
  std::map<std::shared_ptr<NcclCommunicator>, std::vector<std::shared_ptr<Collective>>> each;
  for (const auto& [communicator, collective] : ended.given)
    each[communicator].push_back(collective);
  ncclResult_t result = ncclSuccess;
  for (auto& [communicator, collectives] : each) {
    const ncclResult_t given = give(communicator, std::move(collectives));
    if (result == ncclSuccess) result = given;
  }
  return result;
}

ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count, ncclDataType_t type,
                               ncclRedOp_t operation, ncclComm_t communicator,
                               cudaStream_t stream) {
  return start({CollectiveKind::reduce_scatter, type, operation, 0, count}, from, to, communicator,
               stream);
}

ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclComm_t communicator, cudaStream_t stream) {
  return start({CollectiveKind::all_gather, type, ncclSum, 0, count}, from, to, communicator,
               stream);
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclRedOp_t operation, ncclComm_t communicator, cudaStream_t stream) {
  return start({CollectiveKind::all_reduce, type, operation, 0, count}, from, to, communicator,
               stream);
}

ncclResult_t ncclReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                        ncclRedOp_t operation, int root, ncclComm_t communicator,
                        cudaStream_t stream) {
  return start({CollectiveKind::reduce, type, operation, root, count}, from, to, communicator,
               stream);
}

ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t communicator, cudaStream_t stream) {
  return start({CollectiveKind::broadcast, type, ncclSum, root, count}, from, to, communicator,
               stream);
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInternalError:
      return "internal error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    default:
      return "unknown result code";
  }
}

// Of this thread.
const char* ncclGetLastError(ncclComm_t) {
  return last_problem().c_str();
}

}  // extern "C"
