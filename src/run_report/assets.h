#pragma once
// Files that are part of the program (cmake/StrandEmbed.cmake): style and script of the page, and dygraphs, which draws
// series that can be zoomed. Without dygraphs at build time its two texts are empty, and pages have still pictures
// alone.
#include <string_view>

namespace strand::run_report {

extern const std::string_view page_style, page_script, dygraphs_style, dygraphs_script;

}  // namespace strand::run_report
