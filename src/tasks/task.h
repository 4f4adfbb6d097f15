#pragma once
// The benchmarks that a model can be measured with, as lm-evaluation-harness (0.4.13) defines them: which text of a
// record is the context, which texts are its possible continuations, which of them is right, and which metrics are
// computed. All are asked without examples (zero-shot).
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "tasks/scorer.h"

namespace strand {

enum class TaskKind : uint8_t {
  multiple_choice,  ///< one of the continuations is right
  choice_mass,      ///< several may be right: the share of probability that those have
  last_word,        ///< one continuation
  rolling,          ///< a whole text
};

/// Whether a metric divides by the lengths of the choices as well (acc_norm).
enum class Normalized : uint8_t { no, too };

/// What is asked about one record.
struct TaskDocument {
  nlohmann::ordered_json record;      ///< as it stands in the file
  std::vector<TextRequest> requests;  ///< one for each choice
  std::vector<std::string> choices;   ///< what is measured for acc_norm: continuations without the space before them
  size_t gold = 0;                    ///< multiple_choice: the right choice
  std::vector<uint8_t> right;         ///< choice_mass: 1 for each right choice, 0 for the others
  int64_t words = 0, bytes = 0;       ///< rolling: of the text as it was before it was made readable
};

struct TaskDefinition {
  const char* name;
  TaskKind kind;
  Normalized normalized;
  const char* file;  ///< in the directory of task data, without .jsonl
  const char* version;
  /// Makes the document of a record. Throws Error naming file, line and field.
  TaskDocument (*document)(const nlohmann::ordered_json& record, const std::string& where);
};

/// All of them, in the order of the list of names in help.
std::span<const TaskDefinition> task_definitions();

/// A task whose documents are read.
struct Task {
  std::string name;   ///< "mmlu_abstract_algebra"
  std::string group;  ///< of MMLU's subjects: "mmlu_stem"; "" = none
  const TaskDefinition* definition;
  std::vector<TaskDocument> documents;
  size_t documents_in_file = 0;  ///< before a limit
};

/// Reads the documents of a task from files in `directory`, the first `limit` of them (0 = all). MMLU becomes a task
/// for each subject, in alphabetical order, and the limit holds for each. Throws Error naming what is missing or wrong.
std::vector<Task> load_task(const std::string& name, const std::string& directory, size_t limit);

}  // namespace strand
