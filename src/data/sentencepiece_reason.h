#pragma once
// What SentencePiece says of a failure, made fit for people who use strand.
#include <string>

namespace strand {

/// The text of a status without its code, source file and condition, and without sentences that advise options of
/// SentencePiece's own programs. "" when nothing else is in it.
std::string sentencepiece_reason(const std::string& status);

/// The same for a failed training: how many pieces the text allows or needs, where it was that.
std::string sentencepiece_training_reason(const std::string& status);

}  // namespace strand
