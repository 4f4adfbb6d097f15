#pragma once
// A value inside a JSON file together with where it stands, so that an error names the file and the key.
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace strand {

/// It refers to the value, which must outlive it.
class JsonPlace {
 public:
  /// `path` is the key in the file, such as "model.vocab"; "" = the whole file.
  JsonPlace(const nlohmann::json& value, std::string file, std::string path = "");

  const nlohmann::json& value() const { return *value_; }
  /// "tokenizer.json: model.vocab"
  std::string name() const;
  [[noreturn]] void refuse(const std::string& reason) const;

  /// A member of this object. find() gives nothing when it is missing or null, and at() throws Error then.
  std::optional<JsonPlace> find(const char* key) const;
  JsonPlace at(const char* key) const;
  /// Throws Error naming a member that is not in `known`, because a reader that does not know it could not obey it.
  void require_only(std::initializer_list<const char*> known) const;
  /// The elements of this array.
  std::vector<JsonPlace> items() const;

  std::string text() const;
  bool flag() const;
  /// A whole number in [0, 2^31).
  int32_t id() const;

  /// The member `key`, or what stands for it where it is missing or null.
  std::string text_or(const char* key, const std::string& otherwise) const;
  bool flag_or(const char* key, bool otherwise) const;

 private:
  const nlohmann::json* value_;
  std::string file_;
  std::string path_;
};

}  // namespace strand
