#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/bpe/regex.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/error.h"

namespace strand {

namespace {
std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

const pcre2_code* code_of(const std::shared_ptr<void>& code) {
  return static_cast<const pcre2_code*>(code.get());
}
}  // namespace

Regex::Regex(const std::string& pattern, const std::string& where) : pattern_(pattern), where_(where) {
  const std::string translated = to_pcre2(pattern, where);
  int error = 0;
  size_t at = 0;
  pcre2_code* const code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                         PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr);
  require(code != nullptr, "{}: the regular expression {} is not understood: {}", where, pattern, message_of(error));
  code_ = std::shared_ptr<void>(code, [](void* c) { pcre2_code_free(static_cast<pcre2_code*>(c)); });
  uint32_t matches_empty = 0;
  pcre2_pattern_info(code, PCRE2_INFO_MATCHEMPTY, &matches_empty);
  require(matches_empty == 0, "{}: the regular expression {} may match nothing, and then does not split a text", where,
          pattern);
  // Without the compiler (a processor that it does not know), PCRE2 interprets the pattern and finds the same.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
}

RegexSearch::RegexSearch(const Regex& regex) : regex_(&regex) {
  pcre2_match_data* const data = pcre2_match_data_create_from_pattern(code_of(regex.code_), nullptr);
  require(data != nullptr, "no memory for a search");
  data_ = std::shared_ptr<void>(data, [](void* d) { pcre2_match_data_free(static_cast<pcre2_match_data*>(d)); });
}

ByteRange RegexSearch::find(std::string_view text, size_t from) {
  auto* const data = static_cast<pcre2_match_data*>(data_.get());
  const auto match = [&](uint32_t options) {
    return pcre2_match(code_of(regex_->code_), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                       PCRE2_NO_UTF_CHECK | options, data, nullptr);
  };
  int found = match(0);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = match(PCRE2_NO_JIT);  // the interpreter has its stack on the heap
  if (found == PCRE2_ERROR_NOMATCH) return {text.size(), text.size()};
  require(found > 0, "{}: the regular expression {} cannot be applied to a text of {} bytes: {}", regex_->where_,
          regex_->pattern_, text.size(), message_of(found));
  const size_t* const ends = pcre2_get_ovector_pointer(data);
  return {ends[0], ends[1]};
}

}  // namespace strand
