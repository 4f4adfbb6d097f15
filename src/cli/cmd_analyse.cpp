// strand analyse RUN[@STEP] … --data NAME=PREFIX …: what the routing of models says, as a trace and analysis.json.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <set>

#include "analysis/collector.h"
#include "analysis/json_numbers.h"
#include "analysis/masked_routing.h"
#include "analysis/measured_model.h"
#include "cli/analysis_table.h"
#include "cli/commands.h"
#include "cli/model_arguments.h"
#include "cli/number_option.h"
#include "cli/place_locks.h"
#include "cli/text_arguments.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/log.h"
#include "core/standard_streams.h"
#include "core/version.h"
#include "data/tokenizer_record.h"
#include "train/data_feed.h"
#include "train/model_state.h"

namespace strand::cli {

namespace fs = std::filesystem;

namespace {
constexpr int64_t max_tokens = 1'000'000'000;

struct Arguments {
  ModelArguments backend;
  std::vector<std::string> models;
  std::vector<std::string> data;
  std::string format = "auto";
  int64_t tokens = 65536;
  int64_t batch_size = 8;
  int64_t clusters = 0;
  bool unit_length = false;
  bool redundancy = false;
  std::string out;
  bool json = false;
};

/// One domain, as the command line names it.
struct NamedData {
  std::string name, path;
};

NamedData parse_data(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size())
    throw UsageError(fmt::format("--data '{}': NAME=PREFIX, such as text=data/val", text));
  return {text.substr(0, equals), text.substr(equals + 1)};
}

std::vector<NamedData> parse_all_data(const std::vector<std::string>& texts) {
  std::vector<NamedData> all;
  std::set<std::string> names;
  for (const std::string& text : texts) {
    all.push_back(parse_data(text));
    if (!names.insert(all.back().name).second)
      throw UsageError(fmt::format("--data: two are called '{}'", all.back().name));
  }
  return all;
}

/// The folder of the run to which a checkpoint belongs.
fs::path run_of(const std::string& checkpoint) {
  fs::path parent = fs::path(checkpoint).lexically_normal();
  if (parent.filename().empty()) parent = parent.parent_path();
  parent = parent.parent_path();
  if (parent.filename() == "checkpoints") parent = parent.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

/// The text of one domain, as micro-steps.
struct DomainText {
  NamedData data;
  StepData steps;
  int64_t token_count() const { return steps.sequences() * steps.tokens; }
};

/// The text as a model reads it, and the token files that it is read from.
struct TextOfModel {
  std::vector<DomainText> domains;
  std::vector<std::shared_ptr<const TokenFile>> files;
};

TextOfModel read_text(const Arguments& a, const std::vector<NamedData>& data, Config config) {
  config.train.micro_batch_size = a.batch_size;
  const int64_t length = config.data.sequence_length;
  const int64_t sequences = a.tokens == 0 ? 0 : std::max<int64_t>(1, a.tokens / length);
  TextOfModel all;
  for (const NamedData& domain : data) {
    const DataFeed feed({{.path = domain.path, .format = a.format}}, config);
    all.domains.push_back({domain, feed.validation(sequences, a.batch_size, 0, 1)});
    all.files.push_back(feed.files()[0]);
  }
  return all;
}

/// Means over tokens of terms that were measured domain by domain.
class TermMeans {
 public:
  void add(const StepTerms& terms, int64_t tokens) {
    for (const TermRow& row : term_table) sums_[static_cast<size_t>(row.term)] += terms[row.term] * double(tokens);
    tokens_ += tokens;
  }
  double operator[](Term term) const { return sums_[static_cast<size_t>(term)] / double(tokens_); }

 private:
  std::array<double, term_count> sums_{};
  int64_t tokens_ = 0;
};

/// Runs models over the text and takes what they show.
class Measurement {
 public:
  Measurement(const Arguments& arguments, OpenModel& model, const std::vector<DomainText>& text)
      : arguments_(arguments), model_(model), text_(text), runner_(model.session()) {
    for (const DomainText& domain : text) tokens_ += domain.token_count();
  }

  MeasuredModel run(const std::string& name, const std::string& trace_file) {
    const Config& config = model_.config();
    RoutingCollector collector(model_.session(), tokens_, clustered());
    MeasuredModel measured{.name = name, .path = model_.checkpoint().path(), .trace_file = trace_file};
    measured.hidden_size = config.model.hidden_size;
    measured.expert_ffn = config.moe.expert_ffn;
    measured.activation_bytes = static_cast<int64_t>(size_of(model_.session().transformer().types().act));
    TermMeans means;
    for (const DomainText& domain : text_) {
      const StepTerms terms = evaluate(domain, &collector, [&] { collector.end_micro_step(); });
      means.add(terms, domain.token_count());
      measured.domain_ce.push_back(terms[Term::ce]);
    }
    for (const TermRow& row : term_table) {
      measured.terms.emplace_back(row.name, means[row.term]);
      if (row.weight != nullptr) measured.losses[weight_key(row)] = config.losses.*row.weight;
    }
    measured.collected = collector.take();
    if (arguments_.unit_length) measured.collected.scale_inputs_to_unit_length();
    fill(measured.trace, measured.collected, name);
    if (arguments_.redundancy) measured.redundancy = masked_losses(means[Term::ce]);
    if (!model_.checkpoint().tokenizer().empty())
      measured.piece = [&tokenizer = model_.tokenizer()](int32_t id) {
        return id < tokenizer.vocab_size() ? tokenizer.piece(id) : fmt::format("<{}>", id);
      };
    return measured;
  }

 private:
  /// As many as asked for and there are, and every cluster equally many.
  int64_t clustered() const {
    const int64_t wanted = std::min(arguments_.clusters, tokens_);
    return wanted - wanted % model_.config().moe.num_experts;
  }

  template <typename Done>
  StepTerms evaluate(const DomainText& domain, ForwardObserver* observer, const Done& done) {
    const Objective objective{.losses = model_.config().losses};
    Transformer& transformer = model_.session().transformer();
    transformer.begin_evaluation();
    runner_.for_each_micro_step(domain.steps, {}, [&](const MicroStep& micro) {
      transformer.evaluate(micro, objective, {}, observer);
      done();
    });
    return runner_.read_terms(objective);
  }

  void fill(Trace& trace, Collected& collected, const std::string& name) const {
    const Config& config = model_.config();
    trace.model = name;
    trace.step = model_.checkpoint().state().step;
    trace.sequence_length = config.data.sequence_length;
    trace.num_experts = config.moe.num_experts;
    trace.top_k = config.moe.top_k;
    for (int64_t l = config.model.dense_layers; l < config.model.num_layers; ++l) trace.layers.push_back(l);
    for (const DomainText& domain : text_) {
      trace.domains.push_back({domain.data.name, domain.steps.sequences()});
      trace.tokens.insert(trace.tokens.end(), domain.steps.inputs.begin(), domain.steps.inputs.end());
      trace.next.insert(trace.next.end(), domain.steps.targets.begin(), domain.steps.targets.end());
    }
    trace.experts = std::move(collected.experts);
    trace.predicted = collected.predicted;
  }

  std::vector<MaskedLoss> masked_losses(double unmasked) {
    const MoeConfig& moe = model_.config().moe;
    std::vector<MaskedLoss> losses = {{0, unmasked}};
    for (int64_t r = 1; r <= std::min(moe.top_k, most_masked(moe)); ++r) {
      MaskedRouting masked(model_.session(), r);
      TermMeans means;
      for (const DomainText& domain : text_) means.add(evaluate(domain, &masked, [] {}), domain.token_count());
      losses.push_back({r, means[Term::ce]});
    }
    return losses;
  }

  const Arguments& arguments_;
  OpenModel& model_;
  const std::vector<DomainText>& text_;
  StepRunner runner_;
  int64_t tokens_ = 0;
};

/// The checkpoints of each run, in order of their steps.
std::vector<std::vector<size_t>> group_by_run(const std::vector<fs::path>& run_of_model,
                                              const std::vector<Trace>& traces) {
  std::map<fs::path, std::vector<size_t>> by_run;
  for (size_t i = 0; i < run_of_model.size(); ++i) by_run[run_of_model[i]].push_back(i);
  std::vector<std::vector<size_t>> runs;
  for (auto& [run, models] : by_run) {
    std::stable_sort(models.begin(), models.end(), [&](size_t a, size_t b) { return traces[a].step < traces[b].step; });
    runs.push_back(models);
  }
  return runs;
}

int64_t total_tokens(const std::vector<DomainText>& text) {
  int64_t tokens = 0;
  for (const DomainText& domain : text) tokens += domain.token_count();
  return tokens;
}

/// What analysis.json says of the text.
void describe_text(Json& analysis, const std::vector<DomainText>& text) {
  Json data = Json::array();
  for (const DomainText& domain : text) {
    data.push_back({{"name", domain.data.name},
                    {"path", domain.data.path},
                    {"tokens", domain.token_count()},
                    {"sequences", domain.steps.sequences()}});
  }
  analysis["tokens"] = total_tokens(text);
  analysis["sequence_length"] = text.front().steps.tokens;
  analysis["data"] = std::move(data);
}

bool same_text(const std::vector<DomainText>& one, const std::vector<DomainText>& other) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end(), [](const DomainText& a, const DomainText& b) {
    return a.steps.tokens == b.steps.tokens && a.steps.inputs == b.steps.inputs && a.steps.targets == b.steps.targets;
  });
}

/// Analyses models one after the other, on the same text.
class Analysis {
 public:
  Analysis(const Arguments& arguments, std::vector<NamedData> data, fs::path folder)
      : arguments_(arguments), folder_(std::move(folder)), data_(std::move(data)) {}

  /// `path` is what open_checkpoint() understands.
  void add(const std::string& path) {
    ModelArguments arguments = arguments_.backend;
    arguments.path = path;
    OpenModel model(arguments, arguments_.batch_size);
    const std::string& checkpoint = model.checkpoint().path();
    const auto [text, files] = read_text(arguments_, data_, model.config());
    for (const std::string& remark : check_tokenizers(files, model.tokenizer_if_any()))
      if (said_.insert(remark).second) log_warning(remark);
    if (text_.empty()) text_ = text;
    require(same_text(text_, text),
            "{} reads the text in sequences of {} tokens, and {} in sequences of {}: models are compared on the same "
            "sequences only",
            checkpoint, text.front().steps.tokens, first_checkpoint_, text_.front().steps.tokens);
    if (traces_.empty()) first_checkpoint_ = checkpoint;
    const fs::path run = run_of(checkpoint);
    const std::string name = fmt::format("{}@{}", run.string(), model.checkpoint().state().step);
    const std::string trace_file = fmt::format("trace-{}.safetensors", traces_.size());
    log_info(fmt::format("analysing {} on {} tokens", name, total_tokens(text)));
    MeasuredModel measured = Measurement(arguments_, model, text).run(name, trace_file);
    write_trace((folder_ / trace_file).string(), measured.trace);
    models_.push_back(model_json(measured));
    traces_.push_back(std::move(measured.trace));
    runs_.push_back(fs::weakly_canonical(run));
  }

  Json json() {
    Json analysis = {{"format", "strand-analysis-1"}, {"strand", program_version()}, {"commit", program_commit()}};
    describe_text(analysis, text_);
    analysis["models"] = std::move(models_);
    add_stability(analysis, traces_, group_by_run(runs_, traces_));
    return analysis;
  }

 private:
  const Arguments& arguments_;
  fs::path folder_;
  std::vector<NamedData> data_;
  std::vector<DomainText> text_;  ///< as the first model reads it
  std::set<std::string> said_;    ///< of the tokenizers that made it
  std::string first_checkpoint_;
  Json models_ = Json::array();
  std::vector<Trace> traces_;  ///< of the models
  std::vector<fs::path> runs_;
};

void run(const Arguments& a) {
  const std::vector<NamedData> data = parse_all_data(a.data);
  std::vector<std::string> checkpoints;
  for (const std::string& model : a.models) checkpoints.push_back(checkpoint_of_step(model));
  const fs::path folder =
      a.out.empty() ? run_of(open_checkpoint(checkpoints.back()).path()) / "analysis" : fs::path(a.out);
  make_directories(folder.string());
  const PlaceLock lock = lock_output((folder / "analysis.json").string(), "analyse");
  Analysis analysis(a, data, folder);
  for (const std::string& checkpoint : checkpoints) analysis.add(checkpoint);
  const Json result = analysis.json();
  const std::string bytes = result.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  write_file_atomically((folder / "analysis.json").string(), bytes);
  if (a.json)
    write_output(bytes);
  else
    print_out("{}\nanalysis.json and the traces are in {}\n", analysis_table(result), folder.string());
}
}  // namespace

void add_analyse_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("analyse", "What the routing of models says: coupling, load, overlap, stability");
  command->footer("Example: strand analyse runs/quickstart --data text=data/quickstart/val --tokens 8192");
  const auto a = std::make_shared<Arguments>();
  command->add_option("RUN", a->models, "Runs (their newest checkpoint), RUN@STEP, or checkpoints")
      ->type_name("")
      ->required();
  command->add_option("--data", a->data, "Token files of a domain and its name; may be given several times")
      ->type_name("NAME=PREFIX")
      ->required()
      ->allow_extra_args(false);
  add_token_format(*command, a->format, "Format of the token files (default auto)");
  add_number(*command, "--tokens", a->tokens, int64_t{0}, max_tokens,
             "Tokens of each domain, spread evenly over it (default 65536); 0 = all");
  add_number(*command, "--clusters", a->clusters, int64_t{0}, max_tokens,
             "Tokens to put into clusters by the router's input (default 0 = none); takes much longer");
  command->add_flag("--unit-length", a->unit_length, "Divide the inputs that are put into clusters by their length")
      ->needs("--clusters");
  command->add_flag("--redundancy", a->redundancy, "Measure the loss without each token's best experts");
  add_number(*command, "--batch-size", a->batch_size, int64_t{1}, max_batch_size, "Sequences in a batch (default 8)");
  command->add_option("--out", a->out, "Folder of analysis.json and the traces (default: analysis in the last run)")
      ->type_name("DIR");
  command->add_flag("--json", a->json, "Print analysis.json instead of tables");
  add_backend_arguments(*command, a->backend);
  command->callback([a] { run(*a); });
}

}  // namespace strand::cli
