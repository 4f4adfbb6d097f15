#include "data/text_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "data/text_reader.h"

namespace strand {

namespace fs = std::filesystem;

namespace {
constexpr size_t named_entries = 100;
constexpr const char* formats = ".txt, .jsonl or .json, plain, .gz or .zst";

struct stat status_of(const std::string& path) {
  struct stat status = {};
  if (stat(path.c_str(), &status) == 0) return status;
  std::error_code error;
  if (fs::is_symlink(fs::symlink_status(path, error))) {
    const std::string target = fs::read_symlink(path, error).string();
    fail("{} is a link to {}, which cannot be followed: repair or remove the link", path, target);
  }
  fail_errno("look at", path);
}

// Walks through the inputs and everything below the directories among them.
class Walk {
 public:
  explicit Walk(TextFiles& files) : files_(files) {}

  void enter(const std::string& directory, const struct stat& status) {
    const auto [first, is_new] = met_.emplace(std::pair(status.st_dev, status.st_ino), directory);
    if (!is_new) return leave_out(directory, "the same directory as " + first->second);
    for (const std::string& name : sorted_names(directory)) visit((fs::path(directory) / name).string(), name);
  }

  // Some file systems have one number for several files, so size and time of change must be the same as well.
  void take(const std::string& path, const struct stat& status) {
    const FileKey key = {status.st_dev, status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
    const auto [first, is_new] = met_files_.emplace(key, path);
    if (S_ISREG(status.st_mode) && !is_new) return leave_out(path, "the same file as " + first->second);
    files_.paths.push_back(path);
  }

 private:
  using FileKey = std::tuple<dev_t, ino_t, off_t, time_t, long>;

  static std::vector<std::string> sorted_names(const std::string& directory) {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
      names.push_back(entry->path().filename().string());
    }
    require(!error, "cannot list {}: {}", directory, error.message());
    std::sort(names.begin(), names.end());
    return names;
  }

  void visit(const std::string& path, const std::string& name) {
    if (name.starts_with('.')) return leave_out(path, "hidden");
    const struct stat status = status_of(path);
    if (S_ISDIR(status.st_mode)) return enter(path, status);
    if (!S_ISREG(status.st_mode)) return leave_out(path, "neither a file nor a directory");
    if (!is_text_file(path)) return leave_out(path, "no text file by its name");
    take(path, status);
  }

  void leave_out(const std::string& path, const std::string& reason) {
    files_.left_out.push_back(fmt::format("{}: {}", path, reason));
  }

  TextFiles& files_;
  std::map<std::pair<dev_t, ino_t>, std::string> met_;  // directories by device and inode, with the first path to each
  std::map<FileKey, std::string> met_files_;
};
}  // namespace

TextFiles list_text_files(const std::vector<std::string>& inputs) {
  TextFiles files;
  Walk walk(files);
  for (const std::string& input : inputs) {
    std::error_code error;
    require(fs::exists(fs::symlink_status(input, error)), "no such text file or directory: {}", input);
    const struct stat status = status_of(input);
    if (S_ISDIR(status.st_mode)) {
      walk.enter(input, status);
    } else {
      require(is_text_file(input), "{} is no text file by its name: {}", input, formats);
      walk.take(input, status);
    }
  }
  require(!files.paths.empty(), "there is no text file to read ({})", formats);
  return files;
}

void warn_of_left_out(const TextFiles& files) {
  const size_t named = std::min(files.left_out.size(), named_entries);
  for (size_t i = 0; i < named; ++i) log_warning(fmt::format("not read: {}", files.left_out[i]));
  if (files.left_out.size() > named) {
    log_warning(fmt::format("not read: {} entries more", files.left_out.size() - named));
  }
}

}  // namespace strand
