#include <algorithm>

#include "config/keys.h"
#include "config/schema.h"

namespace strand {

std::vector<std::string> config_differences(const Config& before, const Config& after,
                                            const std::vector<std::string>& groups) {
  std::vector<std::string> differences;
  for (const schema::Key& key : schema::keys()) {
    if (std::find(groups.begin(), groups.end(), key.group) == groups.end()) continue;
    const std::string was = schema::value_text(key, before), is = schema::value_text(key, after);
    if (was != is) differences.push_back(key.path() + ": " + was + " became " + is);
  }
  return differences;
}

}  // namespace strand
