#pragma once
// A folder with a small text, a tokenizer and token files made from it by the program, and runs of a tiny model on
// them.
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/run_strand.h"

namespace strand {

class Workspace {
 public:
  /// Makes text, tokenizer (vocab_size pieces), token files and `tiny.yaml`; throws Error with the program's own words
  /// when one of its commands fails.
  Workspace();
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  static constexpr int vocab_size = 320;

  /// Runs `strand ARGS...` here.
  Outcome strand(const std::vector<std::string>& arguments) const;
  /// `strand train tiny.yaml --set run.name=NAME MORE...`
  std::vector<std::string> train(const std::string& name, const std::vector<std::string>& more = {}) const;
  /// Runs this command and throws Error unless it succeeded.
  void trained(const std::string& name, const std::vector<std::string>& more = {}) const;

  std::filesystem::path root() const { return root_; }
  std::filesystem::path run(const std::string& name) const { return root_ / "runs" / name; }
  std::filesystem::path checkpoint(const std::string& name, int64_t step) const;
  /// The rows of a run's log.jsonl; a last line that is still being written is left out.
  std::vector<nlohmann::json> log(const std::string& name) const;

 private:
  std::filesystem::path root_;
};

/// The workspace that all cases share.
const Workspace& workspace();

std::string bytes_of(const std::filesystem::path& file);

}  // namespace strand
