#pragma once
// Which files a command reads, when its arguments are files and directories.
#include <string>
#include <vector>

namespace strand {

struct TextFiles {
  std::vector<std::string> paths;  ///< in the order they are read
  /// What else there is, with the reason why it is not read: "a/b.pdf: no text file by its name".
  std::vector<std::string> left_out;
};

/// The files among the inputs as they are given, and everything below the directories among them, sorted by path. Links
/// are followed. A file or directory that was met before, by another path or as another input, is left out, so that no
/// text is read twice and a link to a directory above it does not lead around in circles. Left out are also hidden
/// entries, files whose names say that they have another format, and what is neither a file nor a directory. Throws
/// Error for an input that does not exist, for a link to nothing, for a file among the inputs whose format is unknown,
/// for a directory that cannot be listed, and when nothing is left to read.
TextFiles list_text_files(const std::vector<std::string>& inputs);

/// Logs a warning for everything that was left out. Of very many entries it names the first ones and says how many
/// there are.
void warn_of_left_out(const TextFiles& files);

}  // namespace strand
