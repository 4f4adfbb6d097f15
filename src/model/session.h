#pragma once
// A Session is a model ready to run: its memory, its parameters, and its transformer (or, for generation and scoring,
// its decoder with the prefix cache) on one backend.
//
// How much memory it takes is not estimated: a session on paper, whose arenas only count and whose operations run on
// the plan backend, does what the real one is going to do, and the real one is allocated with exactly the sizes that
// the first one reached. The same run counts the work. Nothing is allocated after that, but for rows of experts that
// are spread over ranks: the plan takes them as evenly shared, and the arenas grow to what comes.
#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/arena.h"
#include "kernels/plan/plan_ops.h"
#include "model/decoder.h"
#include "model/input_buffers.h"
#include "model/parameters.h"
#include "model/step_inputs.h"
#include "model/transformer.h"
#include "parallel/group_traffic.h"

namespace strand {

struct SessionShape {
  Purpose purpose = Purpose::training;
  int64_t sequences = 0;  ///< largest micro-batch; generation and scoring: sequences in the cache
  int64_t tokens = 0;     ///< longest sequence; generation and scoring: positions of each in the cache

  /// Whether the model has a cache, and so a decoder instead of a transformer.
  bool cached() const { return purpose == Purpose::generation || purpose == Purpose::scoring; }
  /// The most tokens of a pass, for a cached purpose. Scoring takes as many as the whole cache holds.
  int64_t pass_tokens() const { return purpose == Purpose::scoring ? sequences * tokens : std::max(sequences, tokens); }
};

/// What the operations of a step do, and what travels between ranks.
struct StepWork {
  PlanCounts ops;        ///< by operation family
  GroupTraffic traffic;  ///< by group and kind
};

/// The memory and the work of a session on one rank. Memory is given by lifetime, with the tensors at its peak.
struct SessionPlan {
  struct ArenaPlan {
    size_t bytes = 0;
    std::vector<Arena::Record> records;  ///< live at the peak
  };
  ArenaPlan model, step, scratch;
  size_t workspace = 0;  ///< bytes in which the largest operation works beside its tensors
  size_t libraries = 0;  ///< bytes for libraries (DeviceTraits::library_bytes)
  int64_t parameters = 0;
  StepWork work;

  size_t bytes() const { return model.bytes + step.bytes + scratch.bytes + workspace + libraries; }
};

class Session;

/// What a session is going to do. The plan's memory is that of both functions, and its work is that of `counted`.
struct SessionUse {
  std::function<void(Session&)> before = [](Session&) {};
  std::function<void(Session&)> counted;
};

/// Runs `use` on a session on paper, which stands for one rank of a grid of such devices.
SessionPlan plan_session(const Config& config, const SessionShape& shape, const DeviceTraits& device,
                         const GridShape& grid, const SessionUse& use);
/// Plans inference, generation and scoring by the passes that take most. (train/training_plan.h plans training.)
SessionPlan plan_session(const Config& config, const SessionShape& shape, const DeviceTraits& device,
                         const GridShape& grid = {});

/// The arenas of a session and the memory behind them.
struct SessionMemory {
  std::array<DeviceMemory, 3> blocks;
  Arena model, step, scratch;

  /// Allocates arenas as large as planned. With experts spread over ranks, `step` and `scratch` can grow.
  static SessionMemory allocate(Device& device, const GridShape& grid, const SessionPlan& plan);
  /// Arenas that only count.
  static SessionMemory on_paper();
};

/// What a session keeps on the device besides the model: what goes in and what comes out.
struct SessionBuffers {
  std::optional<InputBuffers> batches;         ///< where there is no cache
  std::optional<StepInputs> step_batches;      ///< only where steps are recorded (model/step_graph.h)
  Tensor ids, cache_sequence, cache_position;  ///< [new tokens] i32; where there is a cache
  Tensor rows;                                 ///< [rows of prediction] i32; scoring only
  Tensor numbers;                              ///< [step_number_count] f64
  Tensor number;                               ///< [1] f64
  Tensor prediction;                           ///< acc; where there is a cache

  static SessionBuffers allocate(Device& device, Arena& arena, const Config& config, const SessionShape& shape,
                                 const GridShape& grid);
};

/// A token that the cache does not hold yet.
struct PlacedToken {
  int32_t id;
  int32_t sequence;  ///< of the cache
  int32_t position;
};

class Session {
 public:
  /// Allocates what is planned and builds the model; weights are undefined until Parameters::initialize or a load.
  Session(Ops& ops, ProcessGrid& grid, const Config& config, const SessionShape& shape, const SessionPlan& plan);
  /// Builds the model in given memory.
  Session(Ops& ops, ProcessGrid& grid, const Config& config, const SessionShape& shape, SessionMemory memory);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Ops& ops() { return ops_; }
  Device& device() { return ops_.device(); }
  ProcessGrid& grid() { return grid_; }
  const Config& config() const { return config_; }
  const SessionMemory& memory() const { return memory_; }
  Parameters& parameters() { return *parameters_; }
  const SessionShape& shape() const { return shape_; }
  Transformer& transformer();  ///< where there is no cache
  Decoder& decoder();          ///< for generation and scoring

  /// Sends a micro-batch to the device (InputBuffers::send). `targets` may be null (all ignored). Ids are checked
  /// against the vocabulary.
  Batch stage(int64_t sequences, int64_t tokens, const int32_t* inputs, const int32_t* targets);
  /// Sends the batches of a whole step, `rows` tokens, to the device (StepInputs::send). Ids are checked against the
  /// vocabulary. May be called only where step_inputs() has room for them.
  void stage_step(int64_t rows, const int32_t* inputs, const int32_t* targets);
  /// Where recorded steps read their batches. It is null where steps are not recorded.
  const StepInputs* step_inputs() const { return buffers_.step_batches ? &*buffers_.step_batches : nullptr; }
  /// Copies new tokens to the device, for the decoder. Ids are checked against the vocabulary, places against the
  /// cache.
  NewTokens stage(std::span<const PlacedToken> tokens);
  /// Copies rows of the last pass to the device, for Decoder::logits; at most as many as the prediction buffer has.
  Tensor stage_rows(std::span<const int32_t> rows);
  /// acc on the device, for the logits of next tokens: [sequences, V] for generation, and for scoring [R, V] of at most
  /// 16 MiB of f32. None where there is no cache.
  Tensor prediction_buffer() const { return buffers_.prediction; }
  /// [step_number_count] f64 on the device (kernels/ops/step_numbers.h).
  Tensor numbers() const { return buffers_.numbers; }
  /// Makes the next update come after `event`, because weights or moments are being copied away until then. The device
  /// keeps that order; the host does not wait. A later call replaces an earlier one, as copies end in their order.
  void hold_update_until(std::shared_ptr<Event> event) { update_held_by_ = std::move(event); }
  /// Takes the event after which the next update has to come. It is null where nothing is copied.
  std::shared_ptr<Event> take_hold_of_update() { return std::exchange(update_held_by_, nullptr); }
  bool update_is_held() const { return update_held_by_ != nullptr; }
  /// A [1] f64 on the device, for code that needs the place of one number.
  Tensor number_buffer() const { return buffers_.number; }

 private:
  void check_ids(int64_t rows, const int32_t* inputs, const int32_t* targets) const;

  Ops& ops_;
  ProcessGrid& grid_;
  Config config_;
  SessionShape shape_;
  SessionMemory memory_;
  std::unique_ptr<Parameters> parameters_;
  std::unique_ptr<Transformer> transformer_;
  std::unique_ptr<Decoder> decoder_;
  SessionBuffers buffers_;
  std::shared_ptr<Event> update_held_by_;
};

}  // namespace strand
