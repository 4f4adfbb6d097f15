# MPI, as STRAND_MPI asks: sets STRAND_HAS_MPI. Only MPI's C interface is used; its C++ bindings are kept out.
set(STRAND_HAS_MPI OFF)
if(NOT STRAND_MPI MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "STRAND_MPI is AUTO, ON or OFF, not ${STRAND_MPI}")
endif()
if(NOT STRAND_MPI STREQUAL "OFF")
  set(MPI_CXX_SKIP_MPICXX ON)
  find_package(MPI 3 QUIET COMPONENTS CXX)
  if(MPI_CXX_FOUND)
    set(STRAND_HAS_MPI ON)
    message(STATUS "MPI: ${MPI_CXX_LIBRARIES}")
  elseif(STRAND_MPI STREQUAL "ON")
    message(FATAL_ERROR "STRAND_MPI=ON, but no MPI 3 is found: install libopenmpi-dev and openmpi-bin, or name mpicxx "
                        "with -DMPI_CXX_COMPILER=")
  else()
    message(STATUS "MPI: none found, so strand runs as one process (libopenmpi-dev and openmpi-bin bring it)")
  endif()
endif()

# strand_mpi_test(NAME RANKS n... SOURCES... LINK libs...): a Catch2 program that CTest runs under mpirun with each
# number of ranks, as <folder>.NAME.<n>_ranks. tests/parallel/mpi_main.h is its main(): every rank runs every case, and
# CHECKs instead of REQUIREs, so that all keep step. Listed as skipped where there is no MPI or no mpirun.
function(strand_mpi_test name)
  cmake_parse_arguments(ARG "" "" "RANKS;SOURCES;LINK" ${ARGN})
  get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  set(launcher "")
  if(STRAND_HAS_MPI)
    add_executable(${name} ${ARG_SOURCES})
    target_link_libraries(${name} PRIVATE strand_mpi_main ${ARG_LINK})
    target_compile_definitions(${name} PRIVATE STRAND_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
                                               STRAND_BINARY_DIR="${CMAKE_BINARY_DIR}")
    find_program(STRAND_MPIRUN mpirun)
  endif()
  foreach(ranks ${ARG_RANKS})
    set(test ${folder}.${name}.${ranks}_ranks)
    if(STRAND_HAS_MPI AND STRAND_MPIRUN)
      add_test(NAME ${test} COMMAND ${STRAND_MPIRUN} ${STRAND_MPIRUN_OPTIONS} -n ${ranks} $<TARGET_FILE:${name}>)
    else()
      add_test(NAME ${test} COMMAND ${CMAKE_COMMAND} -E echo
        "SKIPPED: no MPI (packages libopenmpi-dev and openmpi-bin; cmake -DSTRAND_MPI=ON says what is missing)")
      set_tests_properties(${test} PROPERTIES SKIP_REGULAR_EXPRESSION "^SKIPPED")
    endif()
    set_tests_properties(${test} PROPERTIES LABELS ${folder} PROCESSORS ${ranks}
                                            ENVIRONMENT "${STRAND_MPI_TEST_ENVIRONMENT}")
  endforeach()
endfunction()

# More ranks than cores, on none in particular; tests run as root in containers. Open MPI's memory outlives it.
set(STRAND_MPIRUN_OPTIONS --oversubscribe --bind-to none)
set(STRAND_MPI_TEST_ENVIRONMENT OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive OMPI_ALLOW_RUN_AS_ROOT=1
                                OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1)
