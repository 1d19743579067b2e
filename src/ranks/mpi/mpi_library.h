// Open MPI's functions and objects as Lathe uses them, found in the library when the first rank
// joins. So the binary starts where the library is missing, and a run without ranks does not load
// it.
#pragma once

#define OMPI_SKIP_MPICXX
#include <mpi.h>

#include <string>

namespace lathe {

class MpiLibrary {
  void* library_;  // first: what follows is found in it

 public:
  explicit MpiLibrary(const std::string& launcher);  // Error(usage) where it cannot be loaded

  decltype(&MPI_Init_thread) init_thread = find("MPI_Init_thread");
  decltype(&MPI_Finalize) finalize = find("MPI_Finalize");
  decltype(&MPI_Comm_rank) comm_rank = find("MPI_Comm_rank");
  decltype(&MPI_Comm_size) comm_size = find("MPI_Comm_size");
  decltype(&MPI_Comm_set_errhandler) comm_set_errhandler = find("MPI_Comm_set_errhandler");
  decltype(&MPI_Isend) isend = find("MPI_Isend");
  decltype(&MPI_Irecv) irecv = find("MPI_Irecv");
  decltype(&MPI_Test) test = find("MPI_Test");
  decltype(&MPI_Error_string) error_string = find("MPI_Error_string");

  MPI_Comm world = find("ompi_mpi_comm_world");
  MPI_Datatype byte = find("ompi_mpi_byte");
  MPI_Errhandler errors_return = find("ompi_mpi_errors_return");

 private:
  // What has a name in the library, as whatever it is wanted for.
  struct Symbol {
    void* address;
    template <class Pointer>
    operator Pointer() const {
      return reinterpret_cast<Pointer>(address);
    }
  };
  Symbol find(const char* name) const;
};

}  // namespace lathe
