#pragma once
// The messages of SentencePiece about failures, as users of strand should see them.
#include <string>

namespace strand {

/// The text of a status, without its code, source file and condition, and without sentences that advise options of
/// SentencePiece's own programs. "" when nothing is left.
std::string sentencepiece_reason(const std::string& status);

/// The same for a training that failed. Where the number of pieces was the reason, it says how many the text allows or
/// needs.
std::string sentencepiece_training_reason(const std::string& status);

}  // namespace strand
