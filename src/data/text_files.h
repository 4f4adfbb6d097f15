#pragma once
// Which files a command reads when it is given files and directories.
#include <string>
#include <vector>

namespace strand {

struct TextFiles {
  std::vector<std::string> paths;  ///< in the order they are read
  /// What directories hold besides, with the reason why it is not read: "a/b.pdf: no text file by its name".
  std::vector<std::string> left_out;
};

/// Files as given; directories with all that is below them, sorted by path. Links are followed; a directory that was
/// met before below the same input is left out, so that a link to a directory above it has an end. Left out are hidden
/// entries, files of another format by their name, and what is neither a file nor a directory.
/// Throws Error for what does not exist, for a link to nothing, for a named file of unknown format, for a directory
/// that cannot be listed, and when nothing is left to read.
TextFiles list_text_files(const std::vector<std::string>& inputs);

/// Warns of everything that was left out: each entry by its name, of very many the first ones and their number.
void warn_of_left_out(const TextFiles& files);

}  // namespace strand
