// Launchers that strand's MPI does not know, and what they leave in an environment.
#include <stdlib.h>

#include <map>

#include "tests/catch.h"
#include "tests/e2e/workspace.h"

namespace strand {
namespace {

using Catch::Contains;
using Environment = std::map<std::string, std::string>;

Outcome run_in(const Environment& environment, const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {strand_program()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  const auto set = [&] {
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
  };
  return run_started(words, {.directory = workspace().root(), .in_child = set, .meanwhile = {}});
}
}  // namespace

TEST_CASE("One of several processes that MPI does not see does not train alone") {
  const Environment environment =
      GENERATE(Environment{{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}}, Environment{{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}},
               Environment{{"OMPI_COMM_WORLD_SIZE", "2"}}, Environment{{"PMIX_RANK", "0"}},
               Environment{{"MV2_COMM_WORLD_RANK", "0"}, {"MV2_COMM_WORLD_SIZE", "4"}});
  const std::string verified = STRAND_SOURCE_DIR "/tests/data/lb_microbatch.safetensors";
  for (const std::vector<std::string>& command :
       {workspace().train("alone"), {"verify", verified}, {"bench", "tiny.yaml"}, {"inspect", "train"}}) {
    const Outcome outcome = run_in(environment, command);
    INFO(command[0] << ": " << outcome.err);
    CHECK(outcome.status == 1);
    CHECK(outcome.out.empty());
    for (const auto& [name, value] : environment) CHECK_THAT(outcome.err, Contains(name + "=" + value));
  }
  CHECK(!std::filesystem::exists(workspace().run("alone")));
}

TEST_CASE("One process of a launcher is a process alone") {
  CHECK(run_in({{"PMI_RANK", "0"}, {"PMI_SIZE", "1"}}, {"inspect", "train"}).status == 0);
}

}  // namespace strand
