#pragma once
// From YAML to a checked Config and back. One table (keys.cpp) holds every key's path, type, default, range and
// meaning; reading, `--set`, the range checks, the help text and the writer all walk that table, so they cannot
// disagree.
//
// Every error is a strand::Error whose message starts with where the value stands ("run.yaml:12: moe.top_k: ...", or
// "--set moe.top_k=9: ..."), names the key's full path and, for a misspelt key or choice, the nearest valid one.
#include <string>
#include <vector>

#include "config/config.h"

namespace strand {

/// Reads the YAML file at `path`, applies `overrides` ("group.key=value", the value in YAML syntax, the last of equal
/// keys wins), fills the values that follow from others (resolve_derived) and checks everything (check_config).
Config load_config(const std::string& path, const std::vector<std::string>& overrides = {});

/// The same for text already in memory; `origin` names it in errors.
Config parse_config(const std::string& yaml_text, const std::string& origin,
                    const std::vector<std::string>& overrides = {});

/// One key of the table, in words.
struct KeyText {
  std::string path;           ///< "moe.score"
  std::string type;           ///< "choice"
  std::string default_value;  ///< "softmax", "required", or what it follows from
  std::string range;          ///< "softmax | sigmoid"
  std::string meaning;
  std::vector<std::string> choices;  ///< all values that it may have, where these are a few words
};

/// All keys, group by group.
std::vector<KeyText> config_keys();

/// The same as a table for people: key, type, default, range, meaning.
std::string config_help();

/// Every key of a Config as YAML. parse_config of the result gives an equal Config: floating-point numbers keep all
/// bits.
std::string to_yaml(const Config& config);

/// model.num_kv_heads = num_heads and model.head_dim = hidden_size / num_heads where they are 0. Throws when the
/// division has a remainder. A vocab_size of 0 stays: only the tokenizer knows it.
void resolve_derived(Config& config);

/// Throws on any value out of its range and on any combination that no run can have, for configs made by hand; expects
/// resolve_derived before. load_config and parse_config have done it.
void check_config(const Config& config);

/// The part of check_config that a model without a training run has to pass: run, model, moe, losses and parallel.
void check_model_config(const Config& config);

/// One line for each key of these groups whose value differs: "model.num_layers: 4 became 6".
std::vector<std::string> config_differences(const Config& before, const Config& after,
                                            const std::vector<std::string>& groups);

/// What is legal and does nothing, one sentence each: an sp weight with top_k 1, decay_steps without wsd, ...
std::vector<std::string> config_warnings(const Config& config);

}  // namespace strand
