# What every target of the project shares: warnings, include roots, sanitizers. Instruction sets are the kernels' own
# (StrandCpuLevels.cmake); everything else runs on every CPU of the architecture.
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)

add_library(strand_options INTERFACE)
target_compile_features(strand_options INTERFACE cxx_std_20)
target_include_directories(strand_options INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR})
# strand_cxx_options(options...): for C++ alone; nvcc has its own (StrandCuda.cmake).
function(strand_cxx_options)
  target_compile_options(strand_options INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${ARGN}>")
endfunction()
strand_cxx_options(-Wall -Wextra -Wshadow -Wpedantic -Wno-missing-field-initializers)
if(STRAND_WERROR)
  strand_cxx_options(-Werror)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 15)
  # GCC 12 sees overlapping copies in `"text" + std::string`, and GCC 14 in a copied std::vector, where there are none
  # (GCC bug 105651).
  strand_cxx_options(-Wno-restrict)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
  # It takes every reference that a function with a temporary argument returns for a part of that argument.
  strand_cxx_options(-Wno-dangling-reference)
endif()
# Fused multiply-add is allowed, reassociation is not: NaN and infinity keep their meaning, and bits do not depend on
# what a compiler finds profitable, except where a loop says `omp simd reduction`.
strand_cxx_options(-fno-math-errno -ffp-contract=fast -fopenmp-simd)
if(STRAND_SANITIZE)
  strand_cxx_options(-fsanitize=address,undefined -fno-sanitize-recover=all
                                                  -fno-omit-frame-pointer -g)
  target_link_options(strand_options INTERFACE -fsanitize=address,undefined)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # What the sanitizers add makes GCC see variables without a value where there are none, in <regex> for instance. The
    # builds without them have this warning.
    strand_cxx_options(-Wno-maybe-uninitialized)
  endif()
endif()
if(STRAND_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "STRAND_FUZZ needs clang (-DCMAKE_CXX_COMPILER=clang++-19), not ${CMAKE_CXX_COMPILER_ID}")
  endif()
  strand_cxx_options(-fsanitize=fuzzer-no-link,address,undefined
                                                  -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
  target_link_options(strand_options INTERFACE -fsanitize=address,undefined)
endif()
target_link_libraries(strand_options INTERFACE fmt::fmt Threads::Threads)

# strand_library(NAME room SOURCES... [LINK libs...]): one static library a room of the house.
function(strand_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;PRIVATE_LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC strand_options ${ARG_LINK} PRIVATE ${ARG_PRIVATE_LINK})
endfunction()

# strand_test(NAME SOURCES... LINK libs...): a Catch2 program whose cases CTest runs one by one, labelled by folder.
function(strand_test name)
  cmake_parse_arguments(ARG "" "LABEL" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE strand_options ${ARG_LINK} Catch2::Catch2WithMain)
  target_compile_definitions(${name} PRIVATE STRAND_SOURCE_DIR="${CMAKE_SOURCE_DIR}" STRAND_BINARY_DIR="${CMAKE_BINARY_DIR}")
  # Tests share the cores: a thread that waits must sleep, not spin. Where memory runs out, AddressSanitizer is to say
  # so as the system does, and not to end the program.
  set(environment OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive ASAN_OPTIONS=allocator_may_return_null=1)
  get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  add_test(NAME ${folder}.${name} COMMAND ${name})
  set_tests_properties(${folder}.${name} PROPERTIES LABELS ${folder} ENVIRONMENT "${environment}")
endfunction()

# strand_level_tests(NAME): runs a program of strand_test() on each level of the CPU kernels but the highest, as
# <folder>.NAME.<level>. The program's own test runs on the highest that this CPU has. Listed as skipped where the CPU
# does not have the level.
function(strand_level_tests name)
  get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  get_test_property(${folder}.${name} ENVIRONMENT environment)
  set(levels ${STRAND_CPU_LEVELS})
  list(POP_BACK levels)
  foreach(level ${levels})
    add_test(NAME ${folder}.${name}.${level} COMMAND ${name})
    set_tests_properties(${folder}.${name}.${level} PROPERTIES LABELS "${folder};level_${level}"
      ENVIRONMENT "${environment};STRAND_ISA=${level}" SKIP_REGULAR_EXPRESSION "this CPU does not have")
  endforeach()
endfunction()
