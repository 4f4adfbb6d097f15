#include "tasks/pairs.h"

#include "core/error.h"
#include "tasks/record.h"

namespace strand {

std::vector<TextRequest> read_pairs(const std::string& path) {
  std::vector<TextRequest> requests;
  for_each_record(path, [&](const nlohmann::ordered_json& json, const std::string& where) {
    const Field record(json, where);
    if (record.has("text")) {
      require(!record.has("context") && !record.has("continuation"),
              "{}: \"text\" is scored as a whole, so it stands alone, without \"context\" and \"continuation\"", where);
      requests.push_back({"", record["text"].text(), Likelihood::of_text, where});
      return true;
    }
    requests.push_back({record["context"].text(), record["continuation"].text(), Likelihood::of_continuation, where});
    require(!requests.back().continuation.empty(), "{}: \"continuation\" is empty, so nothing can be scored", where);
    return true;
  });
  require(!requests.empty(), "{} has no record", path);
  return requests;
}

}  // namespace strand
