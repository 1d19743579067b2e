// NCCL's functions as Lathe calls them, found in the library when the first one is called. So a
// build with NCCL starts where the library is missing, and pays for loading it only when GPUs meet.
// Where it cannot be loaded every call answers ncclSystemError, and nccl_load_problem() says why.
#include "nccl_loader.h"

#include <dlfcn.h>
#include <nccl.h>

namespace {

struct Library {
  void* handle = nullptr;
  std::string problem;

  Library() : handle(dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL)) {
    if (handle == nullptr) problem = dlerror();
  }
};

const Library& library() {
  static const Library loaded;
  return loaded;
}

void* find(const char* name) {
  return library().handle == nullptr ? nullptr : dlsym(library().handle, name);
}

// Calls `name` in the library, with the type that the header gives it.
template <class... Parameters, class... Arguments>
ncclResult_t call(ncclResult_t (* /*declared*/)(Parameters...), const char* name,
                  Arguments... arguments) {
  void* const symbol = find(name);
  if (symbol == nullptr) return ncclSystemError;
  return reinterpret_cast<ncclResult_t (*)(Parameters...)>(symbol)(arguments...);
}

}  // namespace

namespace lathe::cuda {

std::string nccl_load_problem() {
  return library().problem;
}

}  // namespace lathe::cuda

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  return call(ncclGetVersion, "ncclGetVersion", version);
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  return call(ncclGetUniqueId, "ncclGetUniqueId", id);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* communicator, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  return call(ncclCommInitRankConfig, "ncclCommInitRankConfig", communicator, ranks, id, rank,
              config);
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t communicator, ncclResult_t* state) {
  return call(ncclCommGetAsyncError, "ncclCommGetAsyncError", communicator, state);
}

ncclResult_t ncclCommAbort(ncclComm_t communicator) {
  return call(ncclCommAbort, "ncclCommAbort", communicator);
}

ncclResult_t ncclCommFinalize(ncclComm_t communicator) {
  return call(ncclCommFinalize, "ncclCommFinalize", communicator);
}

ncclResult_t ncclCommDestroy(ncclComm_t communicator) {
  return call(ncclCommDestroy, "ncclCommDestroy", communicator);
}

ncclResult_t ncclGroupStart() {
  return call(ncclGroupStart, "ncclGroupStart");
}

ncclResult_t ncclGroupEnd() {
  return call(ncclGroupEnd, "ncclGroupEnd");
}

ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count, ncclDataType_t type,
                               ncclRedOp_t operation, ncclComm_t communicator,
                               cudaStream_t stream) {
  return call(ncclReduceScatter, "ncclReduceScatter", from, to, count, type, operation,
              communicator, stream);
}

ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclComm_t communicator, cudaStream_t stream) {
  return call(ncclAllGather, "ncclAllGather", from, to, count, type, communicator, stream);
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclRedOp_t operation, ncclComm_t communicator, cudaStream_t stream) {
  return call(ncclAllReduce, "ncclAllReduce", from, to, count, type, operation, communicator,
              stream);
}

ncclResult_t ncclReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                        ncclRedOp_t operation, int root, ncclComm_t communicator,
                        cudaStream_t stream) {
  return call(ncclReduce, "ncclReduce", from, to, count, type, operation, root, communicator,
              stream);
}

ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t communicator, cudaStream_t stream) {
  return call(ncclBroadcast, "ncclBroadcast", from, to, count, type, root, communicator, stream);
}

const char* ncclGetErrorString(ncclResult_t result) {
  void* const symbol = find("ncclGetErrorString");
  if (symbol == nullptr) return "NCCL could not be loaded";
  return reinterpret_cast<const char* (*)(ncclResult_t)>(symbol)(result);
}

const char* ncclGetLastError(ncclComm_t communicator) {
  void* const symbol = find("ncclGetLastError");
  if (symbol == nullptr) return library().problem.c_str();
  return reinterpret_cast<const char* (*)(ncclComm_t)>(symbol)(communicator);
}

}  // extern "C"
