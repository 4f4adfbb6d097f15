// Arbitrary bytes as files of benchmarks and of pairs: the first byte chooses which. Every document that is made can be
// asked, and its right answer is one of its choices.
#include "fuzz.h"
#include "tasks/pairs.h"
#include "tasks/task.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace strand;
  if (size < 1) return 0;
  const std::string_view bytes = fuzz::text_of(data + 1, size - 1);
  const size_t which = data[0] % (task_definitions().size() + 2);
  const std::string& directory = fuzz::directory();
  if (which == task_definitions().size()) {
    fuzz::put(directory + "/pairs.jsonl", bytes);
    return fuzz::attempt([&] { read_pairs(directory + "/pairs.jsonl"); });
  }
  std::string name = "mmlu", file = directory + "/mmlu/anatomy_test.csv";
  std::filesystem::remove(directory + "/mmlu.jsonl");
  if (which < task_definitions().size()) {
    name = task_definitions()[which].name;
    file = directory + "/" + task_definitions()[which].file + ".jsonl";
  } else {
    std::filesystem::create_directories(directory + "/mmlu");
  }
  fuzz::put(file, bytes);
  return fuzz::attempt([&] {
    for (const Task& task : load_task(name, directory, 0)) {
      fuzz::claim(!task.documents.empty(), "a task has documents");
      for (const TaskDocument& document : task.documents) {
        fuzz::claim(!document.requests.empty(), "a document asks something");
        if (task.definition->kind == TaskKind::rolling) continue;
        fuzz::claim(document.choices.size() == document.requests.size(), "each choice is asked");
        fuzz::claim(document.gold < document.choices.size(), "the right choice is there");
        for (const std::string& choice : document.choices) fuzz::claim(!choice.empty(), "no choice is empty");
      }
    }
  });
}
