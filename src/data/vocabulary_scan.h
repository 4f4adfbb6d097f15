#pragma once
// Looks for ids outside the vocabulary in whole token files while training goes on, so that a bad id in a rarely
// visited place is found in the first minutes of a run and not after days.
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

  /// Starts one thread of lowest priority that reads the files one after another, once.
  VocabularyScan(std::vector<std::shared_ptr<const TokenFile>> files, int64_t vocab_size);
  /// Ends the thread, wherever it is.
  ~VocabularyScan();
  VocabularyScan(const VocabularyScan&) = delete;
  VocabularyScan& operator=(const VocabularyScan&) = delete;

  /// "", or what is wrong: file, token and id. Does not wait.
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
