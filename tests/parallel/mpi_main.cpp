#include "parallel/mpi_main.h"

#define CATCH_CONFIG_RUNNER
#include "tests/catch.h"

namespace strand::test {

namespace {
std::unique_ptr<Processes> started;
}

Processes& processes() {
  return *started;
}

}  // namespace strand::test

int main(int argc, char** argv) {
  strand::test::started = strand::Processes::start();
  const int failed = Catch::Session().run(argc, argv);
  if (failed != 0) strand::test::started->abort(1);
  strand::test::started.reset();
  return 0;
}
