#include "tasks/task.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <map>

#include "core/error.h"
#include "tasks/record.h"
#include "tasks/task_documents.h"
#include "tasks/text_rules.h"

namespace strand {

namespace {
using Json = nlohmann::ordered_json;
using enum TaskKind;

constexpr std::array definitions = {
    TaskDefinition{"boolq", multiple_choice, Normalized::no, "boolq", "2.0", boolq_document},
    TaskDefinition{"arc_easy", multiple_choice, Normalized::too, "arc_easy", "1.0", arc_document},
    TaskDefinition{"arc_challenge", multiple_choice, Normalized::too, "arc_challenge", "1.0", arc_document},
    TaskDefinition{"truthfulqa_mc1", multiple_choice, Normalized::no, "truthfulqa", "2.0", truthfulqa_mc1_document},
    TaskDefinition{"truthfulqa_mc2", choice_mass, Normalized::no, "truthfulqa", "3.0", truthfulqa_mc2_document},
    TaskDefinition{"piqa", multiple_choice, Normalized::too, "piqa", "1.0", piqa_document},
    TaskDefinition{"mmlu", multiple_choice, Normalized::no, "mmlu", "1.0", mmlu_document},
    TaskDefinition{"hellaswag", multiple_choice, Normalized::too, "hellaswag", "1.0", hellaswag_document},
    TaskDefinition{"lambada", last_word, Normalized::no, "lambada", "1.0", lambada_document},
    TaskDefinition{"wikitext", rolling, Normalized::no, "wikitext", "2.0", wikitext_document},
    TaskDefinition{"winogrande", multiple_choice, Normalized::no, "winogrande", "1.0", winogrande_document},
    TaskDefinition{"openbookqa", multiple_choice, Normalized::too, "openbookqa", "1.0", openbookqa_document},
    TaskDefinition{"sciq", multiple_choice, Normalized::too, "sciq", "1.0", sciq_document}};

struct MmluSubject {
  const char* name;   ///< "abstract_algebra"
  const char* group;  ///< "stem", "humanities", "social_sciences" or "other"
};
constexpr std::array subjects = {MmluSubject{"abstract_algebra", "stem"},
                                 MmluSubject{"anatomy", "stem"},
                                 MmluSubject{"astronomy", "stem"},
                                 MmluSubject{"business_ethics", "other"},
                                 MmluSubject{"clinical_knowledge", "other"},
                                 MmluSubject{"college_biology", "stem"},
                                 MmluSubject{"college_chemistry", "stem"},
                                 MmluSubject{"college_computer_science", "stem"},
                                 MmluSubject{"college_mathematics", "stem"},
                                 MmluSubject{"college_medicine", "other"},
                                 MmluSubject{"college_physics", "stem"},
                                 MmluSubject{"computer_security", "stem"},
                                 MmluSubject{"conceptual_physics", "stem"},
                                 MmluSubject{"econometrics", "social_sciences"},
                                 MmluSubject{"electrical_engineering", "stem"},
                                 MmluSubject{"elementary_mathematics", "stem"},
                                 MmluSubject{"formal_logic", "humanities"},
                                 MmluSubject{"global_facts", "other"},
                                 MmluSubject{"high_school_biology", "stem"},
                                 MmluSubject{"high_school_chemistry", "stem"},
                                 MmluSubject{"high_school_computer_science", "stem"},
                                 MmluSubject{"high_school_european_history", "humanities"},
                                 MmluSubject{"high_school_geography", "social_sciences"},
                                 MmluSubject{"high_school_government_and_politics", "social_sciences"},
                                 MmluSubject{"high_school_macroeconomics", "social_sciences"},
                                 MmluSubject{"high_school_mathematics", "stem"},
                                 MmluSubject{"high_school_microeconomics", "social_sciences"},
                                 MmluSubject{"high_school_physics", "stem"},
                                 MmluSubject{"high_school_psychology", "social_sciences"},
                                 MmluSubject{"high_school_statistics", "stem"},
                                 MmluSubject{"high_school_us_history", "humanities"},
                                 MmluSubject{"high_school_world_history", "humanities"},
                                 MmluSubject{"human_aging", "other"},
                                 MmluSubject{"human_sexuality", "social_sciences"},
                                 MmluSubject{"international_law", "humanities"},
                                 MmluSubject{"jurisprudence", "humanities"},
                                 MmluSubject{"logical_fallacies", "humanities"},
                                 MmluSubject{"machine_learning", "stem"},
                                 MmluSubject{"management", "other"},
                                 MmluSubject{"marketing", "other"},
                                 MmluSubject{"medical_genetics", "other"},
                                 MmluSubject{"miscellaneous", "other"},
                                 MmluSubject{"moral_disputes", "humanities"},
                                 MmluSubject{"moral_scenarios", "humanities"},
                                 MmluSubject{"nutrition", "other"},
                                 MmluSubject{"philosophy", "humanities"},
                                 MmluSubject{"prehistory", "humanities"},
                                 MmluSubject{"professional_accounting", "other"},
                                 MmluSubject{"professional_law", "humanities"},
                                 MmluSubject{"professional_medicine", "other"},
                                 MmluSubject{"professional_psychology", "social_sciences"},
                                 MmluSubject{"public_relations", "social_sciences"},
                                 MmluSubject{"security_studies", "social_sciences"},
                                 MmluSubject{"sociology", "social_sciences"},
                                 MmluSubject{"us_foreign_policy", "social_sciences"},
                                 MmluSubject{"virology", "other"},
                                 MmluSubject{"world_religions", "humanities"}};

/// Adds the document of a record, unless there are enough.
void add(Task& task, const Json& record, const std::string& where, size_t limit) {
  ++task.documents_in_file;
  if (limit > 0 && task.documents.size() == limit) return;
  TaskDocument document = task.definition->document(record, where);
  for (size_t i = 0; i < document.choices.size(); ++i)
    require(!document.choices[i].empty(), "{}: choice {} of the question is empty, so nothing can be scored", where,
            i + 1);
  task.documents.push_back(std::move(document));
}

[[noreturn]] void refuse_missing(const std::string& directory, const std::string& looked_for) {
  fail("{} holds no {} (data_tools/fetch_tasks.sh makes these files; docs/evaluation.md says which fields they have)",
       directory, looked_for);
}

/// The labels that PIQA's authors keep in a second file, one a line; none where the records have them.
std::vector<std::string> separate_labels(const std::string& directory) {
  std::vector<std::string> labels;
  const std::string path = find_record_file(directory, "piqa-labels.lst");
  if (path.empty()) return labels;
  for_each_row(path, [&](std::vector<std::string> cells, const std::string&) {
    labels.push_back(cells[0]);
    return true;
  });
  return labels;
}

Task load_records(const TaskDefinition& definition, const std::string& directory, size_t limit) {
  const std::string name = std::string(definition.file) + ".jsonl", path = find_record_file(directory, name);
  if (path.empty()) refuse_missing(directory, name + ", .gz or .zst");
  Task task{definition.name, "", &definition, {}, 0};
  const std::vector<std::string> labels =
      definition.document == piqa_document ? separate_labels(directory) : std::vector<std::string>{};
  for_each_record(path, [&](Json record, const std::string& where) {
    if (!labels.empty() && !record.contains("label")) {
      require(task.documents_in_file < labels.size(), "{}: piqa-labels.lst has only {} labels", where, labels.size());
      record["label"] = labels[task.documents_in_file];
    }
    add(task, record, where, limit);
    return true;
  });
  require(!task.documents.empty(), "{} has no record", path);
  return task;
}

// ---- MMLU -----------------------------------------------------------------------------------------------------------

/// A row of the authors' own files: the question, four choices, and the letter of the right one.
Json mmlu_record(const std::vector<std::string>& cells, const std::string& subject, const std::string& where) {
  require(cells.size() == 6, "{}: {} cells, but a question of MMLU has 6: question, A, B, C, D, answer", where,
          cells.size());
  const std::string& letter = cells[5];
  require(letter.size() == 1 && letter[0] >= 'A' && letter[0] <= 'D', "{}: cell 6, the answer, is \"{}\", not A to D",
          where, letter);
  return {{"question", cells[0]},
          {"subject", subject},
          {"choices", {cells[1], cells[2], cells[3], cells[4]}},
          {"answer", letter[0] - 'A'}};
}

std::map<std::string, Task> mmlu_tasks(const TaskDefinition& definition) {
  std::map<std::string, Task> tasks;
  for (const MmluSubject& subject : subjects)
    tasks[subject.name] = {
        fmt::format("mmlu_{}", subject.name), fmt::format("mmlu_{}", subject.group), &definition, {}, 0};
  return tasks;
}

/// All subjects in one file, or a file for each of them in a directory.
std::vector<Task> load_mmlu(const TaskDefinition& definition, const std::string& directory, size_t limit) {
  std::map<std::string, Task> tasks = mmlu_tasks(definition);
  const std::string together = find_record_file(directory, "mmlu.jsonl");
  if (!together.empty()) {
    for_each_record(together, [&](Json record, const std::string& where) {
      const std::string subject = Field(record, where)["subject"].text();
      const auto task = tasks.find(subject);
      require(task != tasks.end(), "{}: \"subject\" is \"{}\", which is none of MMLU's {} subjects", where, subject,
              subjects.size());
      add(task->second, record, where, limit);
      return true;
    });
  } else {
    for (auto& [subject, task] : tasks) {
      const std::string base = "mmlu/" + subject;
      const auto name = subject;  // a structured binding cannot be captured
      Task& into = task;
      if (const std::string path = find_record_file(directory, base + ".jsonl"); !path.empty()) {
        for_each_record(path, [&](Json record, const std::string& where) {
          record["subject"] = name;
          add(into, record, where, limit);
          return true;
        });
      } else if (const std::string rows = find_record_file(directory, base + "_test.csv"); !rows.empty()) {
        for_each_row(rows, [&](std::vector<std::string> cells, const std::string& where) {
          add(into, mmlu_record(cells, name, where), where, limit);
          return true;
        });
      }
    }
  }
  std::vector<Task> loaded;
  for (auto& [subject, task] : tasks)
    if (!task.documents.empty()) loaded.push_back(std::move(task));
  if (loaded.empty()) refuse_missing(directory, "mmlu.jsonl, mmlu/SUBJECT.jsonl or mmlu/SUBJECT_test.csv");
  return loaded;
}
}  // namespace

std::span<const TaskDefinition> task_definitions() {
  return definitions;
}

std::vector<Task> load_task(const std::string& name, const std::string& directory, size_t limit) {
  const auto definition =
      std::find_if(definitions.begin(), definitions.end(), [&](const TaskDefinition& d) { return d.name == name; });
  require(definition != definitions.end(), "there is no task {}", name);
  if (definition->document == mmlu_document) return load_mmlu(*definition, directory, limit);
  std::vector<Task> tasks;
  tasks.push_back(load_records(*definition, directory, limit));
  return tasks;
}

}  // namespace strand
