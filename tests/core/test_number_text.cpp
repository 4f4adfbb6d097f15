// Numbers for people: what is not zero is not shown as zero.
#include <limits>

#include "core/number_text.h"
#include "tests/catch.h"

using namespace strand;

TEST_CASE("As many decimals as asked for, where they show two digits") {
  CHECK(fixed_text(0.12345, 4) == "0.1235");
  CHECK(fixed_text(12.3456, 2) == "12.35");
  CHECK(fixed_text(-0.002, 4) == "-0.0020");
  CHECK(fixed_text(412.6, 0) == "413");
  CHECK(signed_text(0.5, 4) == "+0.5000");
}

TEST_CASE("Two significant digits of a number that is smaller than the decimals") {
  CHECK(fixed_text(0.0000321, 4) == "3.2e-05");
  CHECK(fixed_text(-0.00043, 3) == "-0.00043");
  CHECK(fixed_text(0.4, 0) == "0.4");
  CHECK(fixed_text(3.44, 0) == "3.4");
  CHECK(fixed_text(1e-300, 2) == "1e-300");
  CHECK(signed_text(1e-9, 4) == "+1e-09");
  CHECK(signed_text(-1e-9, 4) == "-1e-09");
}

TEST_CASE("Only zero is 0, and what is no number is said") {
  CHECK(fixed_text(0.0, 4) == "0");
  CHECK(fixed_text(-0.0, 4) == "0");
  CHECK(signed_text(0.0, 4) == "0");
  CHECK(fixed_text(std::numeric_limits<double>::infinity(), 2) == "inf");
  CHECK(fixed_text(std::numeric_limits<double>::quiet_NaN(), 2) == "nan");
}
