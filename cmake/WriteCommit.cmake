# cmake -D sources=DIRECTORY -D header=FILE -P WriteCommit.cmake
#
# Writes the commit of the git repository whose top is `sources`, with "-dirty" behind it when tracked files differ from
# it; nothing where `sources` is no such repository (an unpacked archive, even inside another project's repository), or
# where git is missing or refuses (a repository of another user).
cmake_minimum_required(VERSION 3.25)
find_program(GIT git)
set(commit "")
if(GIT)
  function(git_says variable)
    execute_process(COMMAND ${GIT} ${ARGN} WORKING_DIRECTORY ${sources} OUTPUT_VARIABLE said RESULT_VARIABLE status
                    ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
    set(${variable} "${said}" PARENT_SCOPE)
    set(${variable}_status "${status}" PARENT_SCOPE)
  endfunction()
  git_says(prefix rev-parse --show-prefix)
  git_says(head rev-parse --short=12 HEAD)
  git_says(changed status --porcelain --untracked-files=no)
  if(prefix_status EQUAL 0 AND prefix STREQUAL "" AND head_status EQUAL 0 AND changed_status EQUAL 0)
    set(commit "${head}")
    if(NOT changed STREQUAL "")
      string(APPEND commit "-dirty")
    endif()
  endif()
endif()
file(CONFIGURE OUTPUT ${header} CONTENT "#define STRAND_COMMIT \"${commit}\"\n")
