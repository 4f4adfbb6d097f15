#pragma once
// What a misspelt name was likely meant to be. All messages about unknown commands, options, keys and words use this.
#include <string>
#include <vector>

namespace strand {

/// The candidates that `word` was likely meant to be, in the order of `candidates`: those that are equally near, and
/// nearer than all others. Empty when none is near, or when more than four are. From near to far:
///   1. equal but for case and for "-", "_", "." and blanks ("topk" and "top_k")
///   2. one slip away: a letter too many, missing, wrong, or two neighbours swapped ("cosin" and "cosine")
///   3. a part of the candidate, or the other way round: its beginning ("temp" and "temperature"), or some of the words
///      that it is made of, or their beginnings ("batch_size" and "global_batch_size", "seq_len" and "sequence_length")
///   4. several slips away, at most one for each three letters of `word`
/// Slips are counted without case and separators (restricted Damerau-Levenshtein distance). A word of one or two
/// letters is near only to what is equal to it, and a wrong letter in one of three ("gpu" and "cpu") is no slip.
std::vector<std::string> nearest_names(const std::string& word, const std::vector<std::string>& candidates);

/// "'a'", "'a' or 'b'", "'a', 'b' or 'c'". `names` is not empty.
std::string alternatives(const std::vector<std::string>& names);

/// " (did you mean 'a' or 'b'?)" about the nearest names, or "" when there are none.
std::string did_you_mean(const std::string& word, const std::vector<std::string>& candidates);

/// The same for a path, among what is beside it; "" when it exists. Hidden entries are not looked at.
std::string did_you_mean_path(const std::string& path);

}  // namespace strand
