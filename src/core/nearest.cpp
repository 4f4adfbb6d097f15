#include "core/nearest.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

namespace strand {

namespace {
constexpr size_t shortest_part = 3;  // letters of a beginning that says anything
constexpr size_t letters_a_slip = 3;
constexpr size_t most_names = 4;
constexpr size_t far = SIZE_MAX;

bool is_separator(char c) {
  return c == '-' || c == '_' || c == '.' || c == ' ';
}

/// The words that a name is made of, in small letters: "--Batch-size" is batch, size.
std::vector<std::string> parts_of(const std::string& name) {
  std::vector<std::string> parts;
  bool inside = false;
  for (const char c : name) {
    if (!is_separator(c)) {
      if (!inside) parts.emplace_back();
      parts.back() += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    inside = !is_separator(c);
  }
  return parts;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += part;
  return text;
}

/// The restricted Damerau-Levenshtein distance (optimal string alignment).
size_t slips_between(const std::string& a, const std::string& b) {
  std::vector<size_t> before_last(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    std::swap(before_last, last);
    std::swap(last, row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
  }
  return row[b.size()];
}

bool begins(const std::string& text, const std::string& start) {
  return start.size() >= shortest_part && text.starts_with(start);
}

/// Whether the words of `few` follow one another among those of `many`, whole or by their beginnings.
bool contains(const std::vector<std::string>& many, const std::vector<std::string>& few) {
  const auto same = [](const std::string& word, const std::string& part) { return word == part || begins(word, part); };
  return std::search(many.begin(), many.end(), few.begin(), few.end(), same) != many.end();
}

/// Whether one letter of three at most is another one: "gpu" is no slip for "cpu".
bool is_short_and_other(std::string a, std::string b) {
  if (a.size() > letters_a_slip || a.size() != b.size()) return false;
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  return a != b;
}

/// How far apart the names are, from 0; `far` = not near. The steps are those of nearest_names.
size_t distance(const std::string& word, const std::string& candidate) {
  const std::vector<std::string> typed = parts_of(word), known = parts_of(candidate);
  const std::string typed_letters = joined(typed), known_letters = joined(known);
  if (typed_letters.empty() || known_letters.empty()) return far;
  if (typed_letters == known_letters) return 0;
  const size_t slips = slips_between(typed_letters, known_letters);
  const size_t most = std::max(typed_letters.size(), letters_a_slip) / letters_a_slip;
  const bool says_something = typed_letters.size() >= letters_a_slip;
  if (slips == 1 && says_something && !is_short_and_other(typed_letters, known_letters)) return 1;
  if (begins(known_letters, typed_letters) || begins(typed_letters, known_letters) ||
      (says_something && contains(known, typed)) || (known_letters.size() >= shortest_part && contains(typed, known)))
    return 2;
  return slips > 1 && slips <= most && says_something ? slips + 1 : far;
}
}  // namespace

std::vector<std::string> nearest_names(const std::string& word, const std::vector<std::string>& candidates) {
  std::vector<std::string> nearest;
  size_t least = far;
  for (const std::string& candidate : candidates) {
    const size_t here = distance(word, candidate);
    if (here < least) nearest.clear();
    least = std::min(least, here);
    if (here == least && here != far) nearest.push_back(candidate);
  }
  if (nearest.size() > most_names) nearest.clear();
  return nearest;
}

std::string alternatives(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) text += i + 1 == names.size() ? " or " : ", ";
    text += fmt::format("'{}'", names[i]);
  }
  return text;
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& candidates) {
  const std::vector<std::string> nearest = nearest_names(word, candidates);
  return nearest.empty() ? "" : fmt::format(" (did you mean {}?)", alternatives(nearest));
}

std::string did_you_mean_path(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::exists(path, error)) return "";  // and is of another kind than wanted
  fs::path wanted(path);
  if (!wanted.has_filename()) wanted = wanted.parent_path();  // "runs/quickstart/"
  const fs::path directory = wanted.parent_path();
  std::vector<std::string> names;
  for (fs::directory_iterator entry(directory.empty() ? "." : directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with('.')) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  std::vector<std::string> nearest = nearest_names(wanted.filename().string(), names);
  for (std::string& name : nearest) name = (directory / name).string();
  return nearest.empty() ? "" : fmt::format(" (did you mean {}?)", alternatives(nearest));
}

}  // namespace strand
