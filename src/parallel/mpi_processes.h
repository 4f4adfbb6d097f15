#pragma once
// Processes over MPI; for launch.cpp alone. (Only mpi_*.cpp see MPI's own header.)
#include <functional>
#include <memory>

#include "parallel/launch.h"

namespace strand {

/// Calls MPI_Init_thread. Throws Error when MPI does not give MPI_THREAD_SERIALIZED.
std::unique_ptr<Processes> start_mpi(std::function<int()> told_to_end);

}  // namespace strand
