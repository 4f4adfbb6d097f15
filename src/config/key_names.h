#pragma once
// What to say about a key that does not exist. This header is private to config/.
#include <string>

namespace strand::schema {

/// About the key `name` of `group`: " (did you mean 'moe.top_k'?)", or else where keys are listed. The first of these
/// that finds something counts: keys of that name in any group, what other programs call a key ("num_experts_per_tok"),
/// near names in the group (core/nearest.h), near names in any group, and keys whose meaning has the name's words
/// ("learning_rate"). `name` may be "" or stand without a group.
std::string nearest_key(const std::string& group, const std::string& name);

/// The same about a word at the top of a file, where groups stand.
std::string nearest_group_or_key(const std::string& word);

}  // namespace strand::schema
