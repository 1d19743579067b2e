// What the stand-in for libcudart remembers, apart from the machine itself.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <condition_variable>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "fair_mutex.h"
#include "fat_binary.h"
#include "machine.h"
#include "streams.h"

namespace lathe::ptx {

constexpr std::size_t kDefaultShared = 48 * 1024, kOptInShared = 227 * 1024;
constexpr std::size_t kDeviceBytes = std::size_t{8} << 30;

struct RegisteredSymbol {  // a kernel or a variable, by its host address
  FatBinary* binary;
  std::string name;
  std::map<int, std::size_t> dynamic_shared_limits;  // of a kernel, by device: cudaFuncSetAttribute
};

struct LaunchConfiguration {
  dim3 grid, block;
  std::size_t shared;
  cudaStream_t stream;
};

struct Device {
  cudaError_t sticky_error = cudaSuccess;  // a kernel failed: the context is lost
  std::string sticky_detail;
  Stream* null_stream = nullptr;
};

// What each thread of the host has for itself.
struct ThreadState {
  int device = 0;
  std::vector<LaunchConfiguration> pushed;
  cudaError_t last_error = cudaSuccess;
  std::map<cudaError_t, std::string> details;  // what the machine said
  int captures = 0;                            // streams that it captures
};

ThreadState& this_thread();

struct RuntimeState {
  RuntimeState();  // reads the environment: README.md

  FairMutex mutex;                      // of the machine and of all that follows: see Call
  std::condition_variable_any changed;  // a stream went on, or a collective came to its turn
  std::vector<std::unique_ptr<FatBinary>> binaries;
  std::map<const void*, RegisteredSymbol> symbols;
  std::vector<int> visible;  // the program's devices: their numbers on the machine
  std::array<Device, kMostDevices> devices;
  std::list<std::unique_ptr<Stream>> streams;  // a list: what is in it stays where it is
  std::uint32_t streams_made = 0;
  std::shared_ptr<const StreamTimes> host_known;  // what the host has waited for
  std::uint64_t host_version = 0;                 // changes with it
  std::map<cudaEvent_t, std::unique_ptr<Event>> events;
  std::map<const void*, std::size_t> pinned;  // bytes of the host's memory, by its beginning

  // The device of the call, or of the work that is being done.
  Device& device() { return devices[static_cast<std::size_t>(machine().device)]; }

  Stream& add_stream(int device, bool heeds_null_stream);

  // Null when there is none, which is remembered as cudaErrorInvalidResourceHandle; so is a stream
  // of another device than the current one, for those that work is given to.
  Stream* find(cudaStream_t handle);
  Stream* find_of_device(cudaStream_t handle);
  Event* find(cudaEvent_t handle);

  // For what uses memory of the current device without a kernel: that it does not race with what
  // other streams do. Such a race loses the device.
  struct UsedMemory {
    const void* pointer;
    std::size_t bytes;
    Use use;
  };
  cudaError_t use(const char* what, std::initializer_list<UsedMemory> memory);

  // Remembers an error as the last one of this thread; success, or a lost context, is passed on.
  cudaError_t finish(cudaError_t error);
  cudaError_t fail(cudaError_t error, const std::string& detail);
  cudaError_t lose_device(const std::string& detail);         // cudaErrorLaunchFailure from here on
  cudaError_t refuse_unless(bool valid, const char* detail);  // cudaErrorInvalidValue

  // An error during a capture, which may not wait for the device or take memory.
  cudaError_t refuse_in_capture(const char* call);
};

RuntimeState& runtime();

// As many as LATHE_PTX_DEVICES says, of which CUDA_VISIBLE_DEVICES may name some: up to the first
// that there is not, as on a GPU. Null where the environment has none.
std::vector<int> read_devices(const char* count, const char* visible);

// While there is one, the thread has the machine to itself, with its own device current. Every
// function of the runtime begins with it, and calls none of the others.
class Call {
 public:
  Call() : lock_(runtime().mutex) { machine().device = this_thread().device; }

  // Lets other threads have the machine until `holds` does.
  template <class Condition>
  void wait(const Condition& holds) {
    if (holds()) return;
    runtime().changed.wait(lock_, holds);
    machine().device = this_thread().device;
  }
  void wait_for_device(int device);

 private:
  std::unique_lock<FairMutex> lock_;
};

}  // namespace lathe::ptx
