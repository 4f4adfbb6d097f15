// Machines other than the one this was written on: the same training where the home, the locale, the cores, /sys or
// /dev/shm are not as usual, and in folders whose names have blanks and letters beyond ASCII. What a run computes must
// not depend on any of it, so the weights are compared byte by byte.
#include <sys/stat.h>

#include <cstdio>
#include <filesystem>

#include "tests/catch.h"
#include "workspace.h"

using namespace strand;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {
std::vector<std::string> joined(std::vector<std::string> words, const std::vector<std::string>& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

std::string weights_of(const std::string& name) {
  return bytes_of(workspace().checkpoint(name, 4) / "model.safetensors");
}

/// Trains four steps on two threads. The words of `wrapper` stand before those of the program.
Outcome trained_by(const std::vector<std::string>& wrapper, const std::string& name) {
  const std::vector<std::string> training =
      workspace().train(name, {"--set", "train.steps=4", "--set", "train.eval_every=4", "--set", "run.threads=2"});
  return run_program(joined(joined(wrapper, {strand_program()}), training), workspace().root());
}

const std::string& usual_weights() {
  static const std::string weights = [] {
    const Outcome outcome = trained_by({"/usr/bin/env"}, "usual");
    INFO(outcome.err);
    REQUIRE(outcome.status == 0);
    return weights_of("usual");
  }();
  return weights;
}

void check_same(const std::vector<std::string>& wrapper, const std::string& name) {
  const Outcome outcome = trained_by(wrapper, name);
  INFO(name << "\n" << outcome.out << outcome.err);
  REQUIRE(outcome.status == 0);
  CHECK(weights_of(name) == usual_weights());
}

/// Runs in mounts of its own, which `mounts` makes first. Where the system allows none, it says so and returns false.
bool in_mounts(const std::string& mounts, std::vector<std::string>& wrapper) {
  if (run_program({"/usr/bin/unshare", "--mount", "true"}).status != 0) {
    WARN("SKIPPED: this user may not make mounts: " << mounts);
    return false;
  }
  wrapper = {"/usr/bin/unshare", "--mount", "sh", "-c", mounts + " && exec \"$0\" \"$@\""};
  return true;
}

/// A locale with decimal commas, made from the system's sources; "" where there are none (package locales).
std::string comma_locale() {
  const std::string made = (workspace().root() / "locales").string();
  fs::create_directory(made);
  const Outcome outcome =
      run_program({"/usr/bin/env", "localedef", "--no-archive", "-i", "de_DE", "-f", "UTF-8", made + "/de_DE.UTF-8"});
  if (fs::exists(made + "/de_DE.UTF-8/LC_NUMERIC")) return made;
  WARN("SKIPPED: no German locale can be made here: " << outcome.err);
  return "";
}
}  // namespace

TEST_CASE("no environment at all, a home that cannot be written to, none") {
  check_same({"/usr/bin/env", "-i"}, "bare");
  check_same({"/usr/bin/env", "HOME=/proc"}, "read_only_home");
  check_same({"/usr/bin/env", "-u", "HOME"}, "homeless");
}

TEST_CASE("a locale with decimal commas changes no number, read or written") {
  check_same({"/usr/bin/env", "LC_ALL=tr_TR.UTF-8", "LANG=tr_TR.UTF-8"}, "unknown_locale");
  const std::string locales = comma_locale();
  if (locales.empty()) return;
  const std::vector<std::string> german = {"/usr/bin/env", "LOCPATH=" + locales, "LC_ALL=de_DE.UTF-8"};
  REQUIRE(run_program(joined(german, {"printf", "%.1f", "2,5"})).out == "2,5");
  check_same(german, "german");
  CHECK(workspace().log("german").back()["loss"] == workspace().log("usual").back()["loss"]);
  const std::vector<std::string> config = {strand_program(), "config", "tiny.yaml", "--set", "losses.sp_weight=2.5e-3"};
  CHECK(run_program(joined(german, config), workspace().root()).out == run_program(config, workspace().root()).out);
}

TEST_CASE("one core for two threads; threads that the environment asks for by the dozen") {
  check_same({"/usr/bin/taskset", "-c", "0"}, "one_core");
  check_same({"/usr/bin/env", "OMP_NUM_THREADS=64", "OMP_WAIT_POLICY=passive"}, "crowd");
}

TEST_CASE("variables of OpenMP that allow fewer threads leave no work undone") {
  check_same({"/usr/bin/env", "OMP_MAX_ACTIVE_LEVELS=0"}, "no_levels");
  check_same({"/usr/bin/env", "OMP_DYNAMIC=true"}, "dynamic");
  const Outcome limited = trained_by({"/usr/bin/env", "OMP_THREAD_LIMIT=1"}, "limited");
  CHECK(limited.status == 1);
  CHECK_THAT(limited.err, Contains("2 threads are to compute") && Contains("OMP_THREAD_LIMIT is 1"));
}

TEST_CASE("no /sys, and a /dev/shm that takes nothing") {
  std::vector<std::string> wrapper;
  if (!in_mounts("mount -t tmpfs none /sys && mount -t tmpfs -o ro none /dev/shm", wrapper)) return;
  check_same(wrapper, "no_sys");
}

TEST_CASE("folders with blanks and letters beyond ASCII") {
  const fs::path odd = workspace().root() / "a folder für 数据";
  fs::create_directory(odd);
  for (const char* file : {"train.bin", "train.idx", "val.bin", "val.idx", "tokenizer.model", "tiny.yaml"})
    fs::copy_file(workspace().root() / file, odd / file);
  const Outcome outcome = run_program({strand_program(), "train", "tiny.yaml", "--set", "run.dir=läufe und mehr",
                                       "--set", "train.steps=4", "--set", "train.eval_every=4"},
                                      odd);
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
  CHECK(bytes_of(odd / "läufe und mehr" / "tiny" / "checkpoints" / "step_00000004" / "model.safetensors") ==
        usual_weights());
}
