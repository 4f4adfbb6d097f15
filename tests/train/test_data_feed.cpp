// Which sequences a rank gets: together all ranks get what one process gets, in training and in validation.
#include <algorithm>
#include <fstream>
#include <map>

#include "tests/catch.h"
#include "tests/train/reference_files.h"
#include "train/data_feed.h"

namespace strand::test {
namespace {

constexpr int64_t length = 4;    // tokens of a sequence
constexpr int64_t windows = 23;  // of the file; a prime

/// Token i of the file is i, so the first input of a sequence says which window it is.
DataFeed counting_feed(const TemporaryDirectory& directory) {
  const std::string path = directory / "tokens.bin";
  std::ofstream file(path, std::ios::binary);
  for (uint16_t i = 0; i <= windows * length; ++i) file.write(reinterpret_cast<const char*>(&i), sizeof i);
  file.close();
  Config config;
  config.model.vocab_size = windows * length + 1;
  config.data.sequence_length = length;
  return DataFeed({{.path = path, .weight = 1.0, .format = "raw_u16"}}, config);
}

/// How often each window occurs with valid targets; every sequence has all of its targets or none.
void count_windows(const StepData& data, std::map<int32_t, int>& counts) {
  for (int64_t i = 0; i < data.sequences(); ++i) {
    const int32_t* inputs = data.inputs.data() + i * length;
    const int32_t* targets = data.targets.data() + i * length;
    for (int64_t t = 0; t < length; ++t) CHECK((targets[t] == inputs[t] + 1 || targets[t] == -1));
    CHECK(std::count(targets, targets + length, -1) % length == 0);
    CHECK(std::all_of(inputs, inputs + length, [](int32_t id) { return id >= 0; }));
    if (targets[0] >= 0) ++counts[inputs[0] / static_cast<int32_t>(length)];
  }
}

TEST_CASE("Validation covers the same windows in every layout, each once") {
  const TemporaryDirectory directory;
  const DataFeed feed = counting_feed(directory);
  const int64_t wanted = GENERATE(0, 1, 7, 16, 23, 1000);
  const int64_t total = wanted == 0 ? windows : std::min(wanted, windows);
  for (const int ranks : {1, 2, 3, 4})
    for (const int64_t micro_batch : {1, 2, 5}) {
      INFO(wanted << " sequences on " << ranks << " ranks in micro-batches of " << micro_batch);
      std::map<int32_t, int> counts;
      std::vector<std::vector<int64_t>> shapes;
      for (int rank = 0; rank < ranks; ++rank) {
        const StepData data = feed.validation(wanted, micro_batch, rank, ranks);
        count_windows(data, counts);
        shapes.push_back(data.micro_batches);
        CHECK(*std::max_element(data.micro_batches.begin(), data.micro_batches.end()) <= micro_batch);
        if (ranks == 1) CHECK(data.valid_targets() == data.sequences() * length);
      }
      CHECK(static_cast<int64_t>(counts.size()) == total);
      // Of `total` equal parts of the file, one window each.
      for (const auto& [window, times] : counts) CHECK(times == 1);
      int64_t part = 0;
      for (const auto& [window, times] : counts) {
        CHECK(window * total >= part * windows - total);
        CHECK(window * total < (part + 1) * windows);
        ++part;
      }
      for (const auto& shape : shapes) CHECK(shape == shapes[0]);  // ranks take every micro-step together
    }
}

TEST_CASE("A sample for validation takes from the whole file: neither end is favoured") {
  // By hand: the middles of the parts of 23 windows.
  const auto spread = [](int64_t chosen, int64_t all) {
    std::vector<int64_t> found;
    for (int64_t i = 0; i < chosen; ++i) found.push_back(spread_window(i, chosen, all));
    return found;
  };
  CHECK(spread(1, 23) == std::vector<int64_t>{11});
  CHECK(spread(2, 23) == std::vector<int64_t>{5, 17});
  CHECK(spread(3, 9) == std::vector<int64_t>{1, 4, 7});
  CHECK(spread(4, 4) == std::vector<int64_t>{0, 1, 2, 3});
  CHECK(spread_window(2'999'999'999, 3'000'000'000, 6'000'000'000) == 5'999'999'999);  // the product has 65 bits
}

TEST_CASE("A training step is the same samples, however many ranks share them") {
  const TemporaryDirectory directory;
  const DataFeed feed = counting_feed(directory);
  TrainConfig train;
  train.global_batch_size = 12;
  const auto samples = [&](int ranks, int64_t micro_batch) {
    train.micro_batch_size = micro_batch;
    std::vector<std::vector<int32_t>> found;
    for (int rank = 0; rank < ranks; ++rank) {
      const StepData data = feed.training_step(train, 36, rank, ranks);
      for (int64_t i = 0; i < data.sequences(); ++i)
        found.emplace_back(data.inputs.begin() + i * length, data.inputs.begin() + (i + 1) * length);
    }
    std::sort(found.begin(), found.end());
    return found;
  };
  const auto one = samples(1, 12);
  CHECK(one.size() == 12);
  for (const int ranks : {1, 2, 3, 4})
    for (const int64_t micro_batch : {1, 3})
      if (12 % (ranks * micro_batch) == 0) CHECK(samples(ranks, micro_batch) == one);
}

}  // namespace
}  // namespace strand::test
