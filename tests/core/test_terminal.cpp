// How wide text is on a terminal.
#include <cstdlib>

#include "core/terminal.h"
#include "tests/catch.h"

using namespace strand;

TEST_CASE("Text takes the columns that a terminal gives it") {
  CHECK(columns_of("") == 0);
  CHECK(columns_of("step 12") == 7);
  CHECK(columns_of("größer") == 6);
  CHECK(columns_of("専門家") == 6);
  CHECK(columns_of("한국") == 4);
  CHECK(columns_of("🚀!") == 3);
  CHECK(columns_of("e\xCC\x81") == 1);  // e and a combining accent
  CHECK(columns_of("\xFF\xC3") == 2);   // no UTF-8
  CHECK(columns_of("\xE5\xB0") == 2);   // a character cut off
}

TEST_CASE("Text is cut before the character that does not fit") {
  CHECK(fit_columns("step 12", 7) == "step 12");
  CHECK(fit_columns("step 12", 4) == "step");
  CHECK(fit_columns("step", 0).empty());
  CHECK(fit_columns("step", -1).empty());
  CHECK(fit_columns("専門家", 5) == "専門");
  CHECK(fit_columns("größer", 3) == "grö");
  CHECK(fit_columns("e\xCC\x81x", 1) == "e\xCC\x81");
}

TEST_CASE("What is no terminal is as wide as COLUMNS says, or 80") {
  const int none = -1;
  unsetenv("COLUMNS");
  CHECK(terminal_columns(none) == 80);
  setenv("COLUMNS", "132", 1);
  CHECK(terminal_columns(none) == 132);
  for (const char* nonsense : {"", "0", "-5", "80x", "99999999999999999999"}) {
    setenv("COLUMNS", nonsense, 1);
    CHECK(terminal_columns(none) == 80);
  }
}
