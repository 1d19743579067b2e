// Of MPI only starting and messages between two ranks are used: its collectives wait without end,
// and add in orders of their own.
#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <memory>

#include "lathe/error.h"
#include "mpi_library.h"
#include "ranks/transport.h"

namespace lathe {
namespace {

constexpr int kTag = 0;

// Unless the user has.
void set_parameters() {
  // Whoever waits here sleeps; yielding beside that would only put it behind others.
  setenv("OMPI_MCA_mpi_yield_when_idle", "0", /*overwrite=*/0);
  // Over one connection, what lets a rank send waits behind what it sends (docs/distributed.md).
  setenv("OMPI_MCA_btl_tcp_links", "2", /*overwrite=*/0);
}

class MpiTransport final : public Transport {
 public:
  MpiTransport(const std::string& launcher, int expected) : mpi_(launcher) {
    set_parameters();
    int provided = 0;
    require(mpi_.init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided));
    require(mpi_.comm_set_errhandler(mpi_.world, mpi_.errors_return));
    require(mpi_.comm_rank(mpi_.world, &rank_));
    require(mpi_.comm_size(mpi_.world, &size_));
    if (size_ == expected) return;
    mpi_.finalize();
    throw Error(
        ExitCode::usage,
        fmt::format("{}: MPI finds {} {} here, not {}: its launcher is not that of Open MPI; "
                    "start with Open MPI's mpirun, or srun --mpi=pmix",
                    launcher, size_, size_ == 1 ? "rank" : "ranks", expected));
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  IsDone start_send(int to, std::span<const std::byte> bytes) override {
    MPI_Request request = nullptr;
    require(mpi_.isend(bytes.data(), static_cast<int>(bytes.size()), mpi_.byte, to, kTag,
                       mpi_.world, &request));
    return until_done(request);
  }

  IsDone start_receive(int from, std::span<std::byte> bytes) override {
    MPI_Request request = nullptr;
    require(mpi_.irecv(bytes.data(), static_cast<int>(bytes.size()), mpi_.byte, from, kTag,
                       mpi_.world, &request));
    return until_done(request);
  }

  // MPI waits for the others without end, also for one that has died since.
  void close(double seconds) noexcept override {
    alarm(static_cast<unsigned>(std::ceil(seconds)));
    mpi_.finalize();
    alarm(0);
  }

 private:
  IsDone until_done(MPI_Request request) {
    return [this, request]() mutable {
      int is_done = 0;
      require(mpi_.test(&request, &is_done, MPI_STATUS_IGNORE));
      return is_done != 0;
    };
  }

  void require(int code) const {
    if (code == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    mpi_.error_string(code, text, &length);
    throw Error(ExitCode::peer, fmt::format("MPI: {}", text));
  }

  MpiLibrary mpi_;
  int rank_ = 0, size_ = 1;
};

}  // namespace

std::unique_ptr<Transport> make_mpi_transport(const std::string& launcher, int size) {
  return std::make_unique<MpiTransport>(launcher, size);
}

}  // namespace lathe
