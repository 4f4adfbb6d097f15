#pragma once
// Looks for ids outside the vocabulary in whole token files while training goes on, so that a bad id is found in the
// first minutes of a run, and not after days when training comes to its place.
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "data/token_file.h"

namespace strand {

class VocabularyScan {
 public:
  static constexpr int64_t block_tokens = 65536;  ///< read between two looks at whether to stop

  /// Starts one thread of the lowest priority, which reads all files once, one after the other.
  VocabularyScan(std::vector<std::shared_ptr<const TokenFile>> files, int64_t vocab_size);
  /// Ends the thread, even when it has not read everything.
  ~VocabularyScan();
  VocabularyScan(const VocabularyScan&) = delete;
  VocabularyScan& operator=(const VocabularyScan&) = delete;

  /// What is wrong (file, token and id), or "" as long as nothing was found. It does not wait.
  std::string found() const;
  /// Waits for the end of the scan.
  void wait();

 private:
  void scan(const std::vector<std::shared_ptr<const TokenFile>>& files, int64_t vocab_size);

  std::string error_;  ///< written before ended_with_error_ is set, and never after
  std::atomic<bool> ended_with_error_{false};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace strand
