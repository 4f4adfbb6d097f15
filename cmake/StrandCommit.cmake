# The commit that a program is built from, looked up at every build, for `strand --version` and for what runs write.
#
# strand_commit_header(VARIABLE): sets VARIABLE to a folder in which commit.h defines STRAND_COMMIT. The target
# strand_commit writes that file anew only when the commit has changed, so that a build without a new commit compiles
# nothing.
function(strand_commit_header variable)
  set(folder ${CMAKE_BINARY_DIR}/commit)
  if(NOT TARGET strand_commit)
    add_custom_target(strand_commit
      COMMAND ${CMAKE_COMMAND} -D sources=${CMAKE_SOURCE_DIR} -D header=${folder}/commit.h
              -P ${CMAKE_SOURCE_DIR}/cmake/WriteCommit.cmake
      BYPRODUCTS ${folder}/commit.h
      COMMENT "" VERBATIM)
  endif()
  set(${variable} ${folder} PARENT_SCOPE)
endfunction()
