# The CPU kernels, compiled once for each level of instruction sets (kernels/cpu/level.h).
#
# strand_cpu_level(NAME SOURCES... OPTIONS compiler options...) makes NAME's kernels one object file, of which nothing
# but the function strand_cpu_level_NAME is visible, and appends its path to the variable level_objects. Without that,
# the linker would keep one copy of each inline function (of std::vector, of a lambda) for all levels and for the rest
# of the program, and could keep one with instructions that the CPU does not have. GNU binutils do it: `ld -r` with
# --force-group-allocation merges the sections of inline functions into the others, objcopy makes the names local.
#
# CMAKE_LINKER is another linker where CMake found lld, gold or mold first, as it does for clang.
execute_process(COMMAND ${CMAKE_LINKER} --version OUTPUT_VARIABLE linker_says ERROR_QUIET)
if(linker_says MATCHES "^GNU ld ")
  set(STRAND_GNU_LD ${CMAKE_LINKER})
else()
  find_program(STRAND_GNU_LD NAMES ${CMAKE_SYSTEM_PROCESSOR}-linux-gnu-ld.bfd ld.bfd)
  if(NOT STRAND_GNU_LD)
    message(FATAL_ERROR "No GNU ld is found (${CMAKE_LINKER} is another linker): install binutils, "
                        "or name it with -DSTRAND_GNU_LD=")
  endif()
endif()
function(strand_cpu_level name)
  cmake_parse_arguments(ARG "" "" "SOURCES;OPTIONS" ${ARGN})
  set(objects strand_cpu_${name}_objects)
  add_library(${objects} OBJECT ${ARG_SOURCES})
  target_link_libraries(${objects} PRIVATE strand_ops OpenMP::OpenMP_CXX)
  target_include_directories(${objects} SYSTEM PRIVATE ${DNNL_INCLUDE})
  target_compile_definitions(${objects} PRIVATE STRAND_CPU_LEVEL=${name})
  target_compile_options(${objects} PRIVATE ${ARG_OPTIONS})
  set(object ${CMAKE_CURRENT_BINARY_DIR}/strand_cpu_${name}.o)
  add_custom_command(OUTPUT ${object}
    COMMAND ${STRAND_GNU_LD} -r --force-group-allocation -o ${object}.all $<TARGET_OBJECTS:${objects}>
    COMMAND ${CMAKE_OBJCOPY} --keep-global-symbol=strand_cpu_level_${name} ${object}.all ${object}
    COMMAND ${CMAKE_COMMAND} -E rm ${object}.all
    DEPENDS $<TARGET_OBJECTS:${objects}> COMMAND_EXPAND_LISTS VERBATIM
    COMMENT "CPU kernels, level ${name}")
  set(level_objects ${level_objects} ${object} PARENT_SCOPE)
endfunction()

# strand_cpu_level_options(VARIABLE): what all levels are compiled with, besides what all targets are.
function(strand_cpu_level_options variable)
  # Vectors of 64 bytes are passed between functions of one level only, so it does not matter that levels pass them
  # in different ways.
  set(options -Wno-psabi)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # No symbols that are unique over the whole process (static variables of inline functions): levels share none.
    # GCC 12's own AVX-512 headers trip the warning wherever their "undefined" operands are inlined (GCC bug 105593).
    # Some GCCs, tuned for all CPUs, take a sum of products apart into multiplications and additions: 0 forbids that.
    list(APPEND options -fno-gnu-unique -Wno-maybe-uninitialized --param=avoid-fma-max-bits=0)
  endif()
  set(${variable} ${options} PARENT_SCOPE)
endfunction()
