# cmake -DFILE=f -DNAME=n -DNAMESPACE=s -DHEADER=h -DSOURCE=out -P EmbedFile.cmake: see StrandEmbed.cmake.
set(bytes "")
if(NOT FILE STREQUAL "")
  file(READ "${FILE}" hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
endif()
file(WRITE "${SOURCE}" "// Made from ${FILE}.
#include \"${HEADER}\"

namespace ${NAMESPACE} {
namespace {
constexpr unsigned char bytes[] = {${bytes}0};
}
const std::string_view ${NAME}(reinterpret_cast<const char*>(bytes), sizeof bytes - 1);
}  // namespace ${NAMESPACE}
")
