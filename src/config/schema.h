#pragma once
// From YAML to a checked Config and back. One table (keys.cpp) holds the path, type, default, range and meaning of
// every key. Reading, `--set`, the checks of ranges, the help text and the writer all use this table, so they cannot
// disagree.
//
// Every error is a strand::Error whose message starts with where the value stands ("run.yaml:12: moe.top_k: ...", or
// "--set moe.top_k=9: ..."), names the key's full path and, for a misspelt key or choice, the nearest valid one.
#include <string>
#include <vector>

#include "config/config.h"

namespace strand {

/// Reads the YAML file at `path` and applies `overrides`. An override is "group.key=value" with the value in YAML
/// syntax; when a key is given twice, the last one counts. Then values that follow from others are filled in
/// (resolve_derived) and everything is checked (check_config).
Config load_config(const std::string& path, const std::vector<std::string>& overrides = {});

/// The same for text in memory. `origin` is its name in errors.
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

/// The word of the table for a value: "bf16", "experts".
std::string to_string(Precision precision);
std::string to_string(Recompute recompute);

/// Every key of a Config as YAML. parse_config of the result gives an equal Config, because floating-point numbers keep
/// all bits.
std::string to_yaml(const Config& config);

/// Sets model.num_kv_heads to num_heads, and model.head_dim to hidden_size / num_heads (mla: nope_head_dim +
/// rope_head_dim), where they are 0. Throws Error when the division has a remainder. A vocab_size of 0 stays 0, because
/// only the tokenizer knows it.
void resolve_derived(Config& config);

/// Throws Error for a value out of its range, and for a combination that no run can have. It is for configurations made
/// by programs, after resolve_derived; load_config and parse_config call it themselves.
void check_config(const Config& config);

/// The part of check_config that concerns a model without a training run: the groups run, model, moe, losses,
/// parallel and cuda.
void check_model_config(const Config& config);

/// One line for each key of these groups whose value differs: "model.num_layers: 4 became 6".
std::vector<std::string> config_differences(const Config& before, const Config& after,
                                            const std::vector<std::string>& groups);

/// One sentence for each setting that is legal and has no effect, such as an sp weight with top_k 1.
std::vector<std::string> config_warnings(const Config& config);

}  // namespace strand
