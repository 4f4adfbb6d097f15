# strand_embed(OUT NAMESPACE n HEADER h NAME FILE...): a source for each NAME, which defines `const std::string_view NAME`
# in the namespace with the bytes of FILE (none where FILE is ""), as the header declares it. OUT lists the sources.
function(strand_embed out)
  cmake_parse_arguments(ARG "" "NAMESPACE;HEADER" "" ${ARGN})
  list(LENGTH ARGN count)
  set(sources "")
  set(i 4) # after NAMESPACE and HEADER with their values
  while(i LESS count)
    list(GET ARGN ${i} name)
    math(EXPR j "${i} + 1")
    list(GET ARGN ${j} file)
    set(source ${CMAKE_CURRENT_BINARY_DIR}/embedded_${name}.cpp)
    add_custom_command(OUTPUT ${source}
      COMMAND ${CMAKE_COMMAND} "-DFILE=${file}" -DNAME=${name} -DNAMESPACE=${ARG_NAMESPACE} -DHEADER=${ARG_HEADER}
              -DSOURCE=${source} -P ${CMAKE_SOURCE_DIR}/cmake/EmbedFile.cmake
      DEPENDS ${file} ${CMAKE_SOURCE_DIR}/cmake/EmbedFile.cmake
      COMMENT "Embedding ${name}" VERBATIM)
    list(APPEND sources ${source})
    math(EXPR i "${i} + 2")
  endwhile()
  set(${out} ${sources} PARENT_SCOPE)
endfunction()
