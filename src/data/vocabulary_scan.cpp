#include "data/vocabulary_scan.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <exception>

namespace strand {

namespace {
constexpr int lowest_priority = 19;
}  // namespace

VocabularyScan::VocabularyScan(std::vector<std::shared_ptr<const TokenFile>> files, int64_t vocab_size)
    : thread_([this, files = std::move(files), vocab_size] { scan(files, vocab_size); }) {}

VocabularyScan::~VocabularyScan() {
  stop_ = true;
  wait();
}

void VocabularyScan::wait() {
  if (thread_.joinable()) thread_.join();
}

std::string VocabularyScan::found() const {
  return ended_with_error_ ? error_ : "";
}

void VocabularyScan::scan(const std::vector<std::shared_ptr<const TokenFile>>& files, int64_t vocab_size) {
  // On Linux each thread has a priority of its own. A failure does no harm.
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), lowest_priority);
  try {
    std::vector<int32_t> ids(static_cast<size_t>(block_tokens));
    for (const auto& file : files)
      for (int64_t begin = 0; begin < file->tokens() && !stop_; begin += block_tokens)
        file->read(begin, std::min(block_tokens, file->tokens() - begin), vocab_size, ids.data());
  } catch (const std::exception& error) {
    error_ = error.what();
    ended_with_error_ = true;
  }
}

}  // namespace strand
