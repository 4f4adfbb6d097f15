#include "core/version.h"

#include <utility>

namespace strand {

namespace {
std::string& commit() {
  static std::string text;
  return text;
}
}  // namespace

const char* program_version() {
  return STRAND_VERSION;
}

const std::string& program_commit() {
  return commit();
}

void set_program_commit(std::string text) {
  commit() = std::move(text);
}

}  // namespace strand
