#pragma once
// MPI reports errors by return value (MPI_ERRORS_RETURN); here they become exceptions.
#include <mpi.h>

#include "core/error.h"

namespace strand {

/// Throws Error with MPI's own words unless `code` is MPI_SUCCESS.
inline void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  fail("{}: {}", call, text);
}

}  // namespace strand
