#pragma once
// Runs of a tiny model in processes of their own (faults_driver), each in its own directory, and all that they leave
// behind, as bytes that can be compared. Every run calls itself runs/tiny, so its files name nothing that differs.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"

namespace strand::test {

struct Ended {
  int status = -1;     ///< exit code; 128 + n after signal n
  bool fault = false;  ///< was the fault reached?
  std::string errors;  ///< all of stderr
};

/// What a run leaves that training decides: every file below checkpoints/ by its path there, and the rows of log.jsonl
/// without what depends on the clock.
struct Remains {
  std::map<std::string, std::string> checkpoints;
  std::vector<std::string> rows;
  bool operator==(const Remains&) const = default;
};

/// V 16, D 8, one layer of two experts, 12 windows of 8 tokens, two of them a step.
Config smallest_config();

class DrivenRun {
 public:
  /// An empty directory with token files for `config` in it; removed at the end.
  explicit DrivenRun(const Config& config);
  ~DrivenRun();
  DrivenRun(const DrivenRun&) = delete;
  DrivenRun& operator=(const DrivenRun&) = delete;

  /// Trains with this fault (fault_layer.h). Throws Error when the driver cannot be started.
  Ended train(const std::string& fault = "none", const std::string& resume = "auto");
  Ended train_accepting_data_change();
  Ended train_weights_only(const std::string& from, const std::string& fault = "none");
  /// Throws Error with the run's own words unless it ended well.
  void complete(const std::string& resume = "auto");

  /// Removes everything that was trained.
  void start_over();

  /// The configuration of the calls that follow. The directory stays the same.
  Config& config() { return config_; }
  std::string directory() const { return root_.string(); }
  std::filesystem::path run() const { return root_ / "runs" / "tiny"; }
  std::filesystem::path checkpoint(int64_t step) const;
  std::vector<int64_t> steps() const;  ///< of the checkpoints there, ascending
  Remains remains() const;

 private:
  Ended drive(std::vector<std::string> arguments);

  Config config_;
  std::filesystem::path root_;
};

/// What such a run leaves when nothing disturbs it.
Remains undisturbed(const Config& config);

std::string file_bytes(const std::filesystem::path& file);
void put_file_bytes(const std::filesystem::path& file, const std::string& bytes);

}  // namespace strand::test
