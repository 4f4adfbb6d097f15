// What the reader accepts, and every way in which it says no: place, key, reason, nearest valid word.
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>

#include "config/schema.h"
#include "core/error.h"
#include "examples.h"
#include "tests/catch.h"

using namespace strand;
using Catch::Contains;
using Catch::EndsWith;
using Catch::StartsWith;

namespace {
/// `valid_yaml` with one more group or line; the additions start at line 16.
std::string with(const std::string& lines) {
  return valid_yaml + lines;
}

std::string replaced(const std::string& from, const std::string& to) {
  std::string yaml = valid_yaml;
  const size_t at = yaml.find(from);
  REQUIRE(at != std::string::npos);
  return yaml.replace(at, from.size(), to);
}
}  // namespace

TEST_CASE("values of every type arrive in their fields") {
  const Config c = parse_config(with("losses: {sp_weight: 2e-3, cp_paths: batch}\n"
                                     "run: {name: a b, seed: 9007199254740993, precision: bf16}\n"),
                                "test.yaml");
  CHECK(c.model.hidden_size == 64);
  CHECK(c.losses.sp_weight == 0.002);
  CHECK(c.losses.cp_paths == CouplingPaths::batch);
  CHECK(c.run.name == "a b");
  CHECK(c.run.seed == 9007199254740993u);  // not representable as a double
  CHECK(c.run.precision == Precision::bf16);
  CHECK(c.model.tied_embeddings);
  CHECK_FALSE(valid_config({"model.tied_embeddings=false"}).model.tied_embeddings);
}

TEST_CASE("scalars are those of YAML 1.2's core schema") {
  // The tables of section 10.3.2, "Tag Resolution".
  const auto integer = [](const std::string& text) { return valid_config({"train.steps=" + text}).train.steps; };
  CHECK(integer("+12") == 12);
  CHECK(integer("0x1F") == 31);
  CHECK(integer("0o17") == 15);
  CHECK(integer("017") == 17);  // octal in YAML 1.1 only
  CHECK(integer("007") == 7);
  CHECK(integer("!!int 12") == 12);
  const auto number = [](const std::string& text) {
    return valid_config({"losses.sp_weight=" + text}).losses.sp_weight;
  };
  CHECK(number("+1e-3") == 1e-3);
  CHECK(number("1E-3") == 1e-3);
  CHECK(number("+.5") == 0.5);
  CHECK(number("1.") == 1.0);
  CHECK(number("012e-03") == 0.012);
  CHECK(number("0x10") == 16.0);
  CHECK(number("0o17") == 15.0);
  CHECK(number("3") == 3.0);
  CHECK(number("!!float 3") == 3.0);
  for (const std::string text : {"true", "True", "TRUE"}) {
    CHECK(valid_config({"model.tied_embeddings=" + text}).model.tied_embeddings);
  }
  for (const std::string text : {"false", "False", "FALSE"}) {
    CHECK_FALSE(valid_config({"model.tied_embeddings=" + text}).model.tied_embeddings);
  }
  for (const std::string text : {"~", "null", "Null", "NULL", ""}) {
    CHECK(valid_config({"data.val=x", "data.val=" + text}).data.val.empty());
    CHECK(valid_config({"data.tokenizer=x", "data.tokenizer=" + text}).data.tokenizer.empty());
    CHECK_THAT(parse_error(valid_yaml, {"train.steps=" + text}), Contains("has no value"));
    CHECK_THAT(parse_error(valid_yaml, {"losses.sp_weight=" + text}), Contains("leave the key out for its default"));
  }
  // Numbers and truth values are text where text is wanted.
  CHECK(valid_config({"run.name=2024"}).run.name == "2024");
  CHECK(valid_config({"run.name=True"}).run.name == "True");
}

TEST_CASE("what is no scalar of YAML 1.2's core schema is text") {
  const auto refused = [](const std::string& key, const std::string& text) {
    return parse_error(valid_yaml, {key + "=" + text});
  };
  for (const std::string text : {"0x", "0o8", "0xg", "0b1", "1_000", "+0x10", "-0x10", "1,000", "12.0", "1e3", "- 1",
                                 "+", "'12'", "\"0x10\"", "!!str 12", "true", "0X10", "0O17"}) {
    INFO(text);
    CHECK_THAT(refused("train.steps", text), Contains("expected an integer") || Contains("YAML"));
  }
  for (const std::string text :
       {"1e", "e3", ".", "+.", "1.2.3", "0x1p3", "infinity", "1e+", "1_0.0", "'1.0'", "!!str 1.0", "190:20:30"}) {
    INFO(text);
    CHECK_THAT(refused("losses.sp_weight", text), Contains("expected a number") || Contains("YAML"));
  }
  for (const std::string text : {".inf", "-.Inf", "+.INF", ".nan", ".NaN", ".NAN"}) {
    CHECK_THAT(refused("losses.sp_weight", text), Contains("not a finite number"));
  }
  for (const std::string text : {"yes", "on", "y", "1", "'true'", "tRue", "!!str true"}) {
    INFO(text);
    CHECK_THAT(refused("model.tied_embeddings", text), Contains("expected true or false"));
  }
  CHECK_THAT(refused("train.steps", "0xFFFFFFFFFFFFFFFFF"), Contains("out of range"));
}

TEST_CASE("a byte-order mark and carriage returns are no part of a configuration") {
  std::string yaml = "\xEF\xBB\xBF";
  for (const char c : valid_yaml) yaml += c == '\n' ? std::string("\r\n") : std::string(1, c);
  CHECK(parse_config(yaml, "test.yaml") == valid_config());
}

TEST_CASE("values that follow from others are filled in") {
  CHECK(valid_config().model.num_kv_heads == 4);
  CHECK(valid_config().model.head_dim == 16);
  const Config c = valid_config({"model.num_kv_heads=2", "model.head_dim=10"});
  CHECK(c.model.num_kv_heads == 2);
  CHECK(c.model.head_dim == 10);
  CHECK(valid_config({"model.vocab_size=0", "data.tokenizer=t.model"}).model.vocab_size == 0);
}

TEST_CASE("data sources: a path, a list of paths, a list of maps") {
  CHECK(valid_config({"data.train=x/y"}).data.train == std::vector<DataSource>{{"x/y", 1.0, "auto"}});
  CHECK(valid_config({"data.train=[a, b]"}).data.train ==
        std::vector<DataSource>{{"a", 1.0, "auto"}, {"b", 1.0, "auto"}});
  const Config c = parse_config(
      replaced("data:\n", "data:\n  val:\n    - {path: a, weight: 0.5, format: llmc}\n    - b\n"), "test.yaml");
  CHECK(c.data.val == std::vector<DataSource>{{"a", 0.5, "llmc"}, {"b", 1.0, "auto"}});
  const auto source_error = [](const std::string& item) {
    return parse_error(replaced("data:\n", "data:\n  val:\n    - ok\n    - " + item + "\n"));
  };
  CHECK(source_error("{path: a, wieght: 1}") ==
        "test.yaml:13: data.val: unknown key 'wieght' of a source (did you mean 'weight'?)");
  CHECK_THAT(source_error("{path: a, format: lmc}"), Contains("test.yaml:13") && Contains("did you mean 'llmc'"));
  CHECK_THAT(source_error("{path: a, weight: 0}"), Contains("test.yaml:13") && Contains("above 0"));
  CHECK_THAT(source_error("{path: a, weight: .nan}"), Contains("test.yaml:13") && Contains("finite"));
  CHECK_THAT(source_error("{path: a, path: b}"), Contains("test.yaml:13") && Contains("duplicate key"));
  CHECK_THAT(source_error("{weight: 1}"), Contains("test.yaml:13") && Contains("needs a path"));
  CHECK_THAT(source_error("[a]"), Contains("test.yaml:13") && Contains("found a list"));
}

TEST_CASE("an unknown key is refused with line, path and the nearest valid key") {
  CHECK(parse_error(replaced("  top_k: 2", "  topk: 2")) ==
        "test.yaml:8: unknown key 'moe.topk' (did you mean 'moe.top_k'?)");
  CHECK(parse_error(with("loses:\n  sp_weight: 1\n")) == "test.yaml:16: unknown key 'loses' (did you mean 'losses'?)");
  CHECK_THAT(parse_error(replaced("  num_experts: 8", "  hidden_size: 8")),
             Contains("did you mean 'model.hidden_size'"));
  CHECK_THAT(parse_error(with("lr: 1e-3\n")), Contains("did you mean 'optimizer.lr'"));
  CHECK_THAT(parse_error(with("moe.score: sigmoid\n")), Contains("write 'score' under 'moe:'"));
  CHECK_THAT(parse_error(with("parallel: {zzzzzzzzzzzzzz: 1}\n")), Contains("keys of parallel: expert_parallel"));
  CHECK_THAT(parse_error(with("topk: 3\n")), Contains("unknown key 'topk' (did you mean 'moe.top_k'?)"));
  CHECK_THAT(parse_error(with("zzzzzz: 3\n")), Contains("unknown key 'zzzzzz' (groups: run, model, moe"));
}

TEST_CASE("a wrong type is refused with line and key") {
  struct Case {
    std::string from, to, message;
  };
  const auto c = GENERATE(
      Case{"hidden_size: 64", "hidden_size: wide", "test.yaml:3: model.hidden_size: expected an integer, found 'wide'"},
      Case{"hidden_size: 64", "hidden_size: 64.0", "test.yaml:3: model.hidden_size: expected an integer, found '64.0'"},
      Case{"hidden_size: 64", "hidden_size: '64'",
           "test.yaml:3: model.hidden_size: expected an integer, found the text \"64\""},
      Case{"hidden_size: 64", "hidden_size: [64]", "test.yaml:3: model.hidden_size: expected an integer, found a list"},
      Case{"hidden_size: 64", "hidden_size: {a: 64}",
           "test.yaml:3: model.hidden_size: expected an integer, found a map"},
      Case{"hidden_size: 64", "hidden_size:", "test.yaml:3: model.hidden_size: has no value"},
      Case{"hidden_size: 64", "norm_eps: small", "test.yaml:3: model.norm_eps: expected a number, found 'small'"},
      Case{"hidden_size: 64", "norm_eps: 1e-5x", "test.yaml:3: model.norm_eps: expected a number, found '1e-5x'"},
      Case{"hidden_size: 64", "tied_embeddings: yes",
           "test.yaml:3: model.tied_embeddings: expected true or false, found 'yes'"},
      Case{"hidden_size: 64", "qk_norm: heads",
           "test.yaml:3: model.qk_norm: unknown choice 'heads' (did you mean 'head'?)"},
      Case{"sequence_length: 16", "tokenizer: [a]", "test.yaml:11: data.tokenizer: expected text, found a list"},
      Case{"data:\n", "data: 7\nrun:\n", "test.yaml:10: data: expected a map of keys, found '7'"},
      Case{"data:\n", "data: [7]\nrun:\n", "test.yaml:10: data: expected a map of keys, found a list"});
  CHECK(parse_error(replaced(c.from, c.to)) == c.message);
}

TEST_CASE("a value out of range is refused with line, key and range") {
  struct Case {
    std::string from, to, key;
  };
  const auto c =
      GENERATE(Case{"hidden_size: 64", "hidden_size: 0", "test.yaml:3: model.hidden_size: "},
               Case{"hidden_size: 64", "hidden_size: -64", "test.yaml:3: model.hidden_size: "},
               Case{"hidden_size: 64", "hidden_size: 99999999999999999999", "test.yaml:3: model.hidden_size: "},
               Case{"hidden_size: 64", "hidden_size: 1152921504606846976", "test.yaml:3: model.hidden_size: "},
               Case{"hidden_size: 64", "rope_fraction: 1.5", "test.yaml:3: model.rope_fraction: "},
               Case{"hidden_size: 64", "rope_fraction: 0", "test.yaml:3: model.rope_fraction: "},
               Case{"hidden_size: 64", "norm_eps: 0", "test.yaml:3: model.norm_eps: "},
               Case{"hidden_size: 64", "norm_eps: 1e999", "test.yaml:3: model.norm_eps: "},
               Case{"hidden_size: 64", "norm_eps: 1e-999", "test.yaml:3: model.norm_eps: "},
               Case{"hidden_size: 64", "norm_eps: .inf", "test.yaml:3: model.norm_eps: "},
               Case{"hidden_size: 64", "norm_eps: -.INF", "test.yaml:3: model.norm_eps: "},
               Case{"hidden_size: 64", "norm_eps: .nan", "test.yaml:3: model.norm_eps: "},
               Case{"hidden_size: 64", "norm_eps: nan", "test.yaml:3: model.norm_eps: "},
               Case{"hidden_size: 64", "norm_eps: inf", "test.yaml:3: model.norm_eps: "});
  CHECK_THAT(parse_error(replaced(c.from, c.to)),
             StartsWith(c.key) && (Contains("range") || Contains("outside") || Contains("finite")));
}

TEST_CASE("only the weight of entropy may be negative, and no weight infinite") {
  const auto message = [](const std::string& losses) {
    return parse_error(std::string(valid_yaml) + "losses: {" + losses + "}\n");
  };
  CHECK(message("entropy_weight: -0.5").empty());
  for (const char* name : {"lb", "z", "sp", "cp", "o", "v"}) {
    CHECK(message(std::string(name) + "_weight: 0.5").empty());
    CHECK_THAT(message(std::string(name) + "_weight: -0.5"), Contains(std::string("losses.") + name + "_weight"));
  }
  for (const char* value : {".inf", "-.inf", ".nan"})
    CHECK_THAT(message(std::string("entropy_weight: ") + value), Contains("losses.entropy_weight"));
}

TEST_CASE("a duplicate key or group is refused with both lines") {
  CHECK(parse_error(replaced("  top_k: 2\n", "  top_k: 2\n  top_k: 2\n")) ==
        "test.yaml:9: moe.top_k: duplicate key, first at test.yaml:8");
  CHECK(parse_error(with("moe:\n  score: softmax\n")) == "test.yaml:16: moe: duplicate key, first at test.yaml:6");
}

TEST_CASE("a missing required key is refused") {
  CHECK_THAT(parse_error(replaced("  num_layers: 3\n", "")), StartsWith("test.yaml: model.num_layers is required"));
  CHECK_THAT(parse_error(""), Contains("is required and missing"));
  CHECK(parse_error(replaced("  num_layers: 3\n", ""), {"model.num_layers=2"}).empty());
}

TEST_CASE("text that is no configuration is refused with its place") {
  CHECK_THAT(parse_error("model: [1, 2\n"), Contains("test.yaml:") && Contains("not valid YAML"));
  CHECK_THAT(parse_error("a: b: c\n"), StartsWith("test.yaml:1: not valid YAML"));
  CHECK_THAT(parse_error("model:\n\thidden_size: 1\n"), StartsWith("test.yaml:2: not valid YAML"));
  CHECK_THAT(parse_error("just words\n"), StartsWith("test.yaml:1: expected a map of groups"));
  CHECK_THAT(parse_error("- a\n"), Contains("found a list"));
  CHECK_THAT(parse_error(with("---\nmodel: {}\n")), Contains("2 YAML documents"));
  CHECK_THAT(parse_error("#\n,"), Contains("text that belongs to none"));
  CHECK_THAT(parse_error("? [a]\n: b\n"), Contains("a key must be a word"));
  CHECK_THAT(parse_error(std::string(100000, '[')), Contains("not valid YAML"));
}

TEST_CASE("a group without any line is a group of defaults") {
  CHECK(parse_error(with("losses:\n")).empty());
}

TEST_CASE("overrides replace the file, the last one wins, and errors name the argument") {
  CHECK(valid_config({"moe.top_k=3", "moe.top_k=4"}).moe.top_k == 4);
  CHECK(valid_config({"run.name=a=b"}).run.name == "a=b");
  CHECK(parse_error(valid_yaml, {"moe.topk=3"}) ==
        "--set moe.topk=3: unknown key 'moe.topk' (did you mean 'moe.top_k'?)");
  CHECK(parse_error(valid_yaml, {"moe.top_k=x"}) == "--set moe.top_k=x: moe.top_k: expected an integer, found 'x'");
  CHECK(parse_error(valid_yaml, {"moe.top_k="}) == "--set moe.top_k=: moe.top_k: has no value");
  CHECK(parse_error(valid_yaml, {"moe.top_k"}) == "--set moe.top_k: expected key=value");
  CHECK_THAT(parse_error(valid_yaml, {"=3"}), Contains("expected key=value"));
  CHECK_THAT(parse_error(valid_yaml, {"moe=3"}), Contains("'moe' is a group"));
  CHECK_THAT(parse_error(valid_yaml, {"lr=3"}), Contains("did you mean 'optimizer.lr'"));
  CHECK(parse_error(valid_yaml, {"topk=3"}) == "--set topk=3: unknown key 'topk' (did you mean 'moe.top_k'?)");
  CHECK(parse_error(valid_yaml, {"train.topk=3"}) ==
        "--set train.topk=3: unknown key 'train.topk' (did you mean 'moe.top_k'?)");
  CHECK_THAT(parse_error(valid_yaml, {"batch_size=3"}),
             Contains("(did you mean 'train.global_batch_size' or 'train.micro_batch_size'?)"));
  const std::pair<const char*, const char*> elsewhere[] = {{"learning_rate", "optimizer.lr"},
                                                           {"num_experts_per_tok", "moe.top_k"},
                                                           {"model.n_layer", "model.num_layers"},
                                                           {"router_aux_loss_coef", "losses.lb_weight"},
                                                           {"optimizer.max_grad_norm", "optimizer.clip_norm"}};
  for (const auto& [name, key] : elsewhere)
    CHECK_THAT(parse_error(valid_yaml, {std::string(name) + "=3"}),
               EndsWith(std::string(" (did you mean '") + key + "'?)"));
  CHECK_THAT(parse_error(valid_yaml, {"global_norm=3"}), EndsWith(" (did you mean 'optimizer.clip_norm'?)"));
  for (const char* nothing : {"zzz.yy=3", "momentum=3"})
    CHECK_THAT(parse_error(valid_yaml, {nothing}), EndsWith("' (strand config --help-keys explains all keys)"));
  CHECK_THAT(parse_error(valid_yaml, {"run.precision=fp16"}), EndsWith("'fp16' (one of: fp64, fp32, bf16)"));
  CHECK_THAT(parse_error(valid_yaml, {"moe.top_k=[1"}), StartsWith("--set moe.top_k=[1: not valid YAML"));
}

TEST_CASE("files: missing, directory, too large") {
  namespace fs = std::filesystem;
  const fs::path dir = fs::temp_directory_path() / ("strand_config_" + std::to_string(std::random_device{}()));
  fs::create_directories(dir);
  CHECK_THROWS_WITH(load_config(dir / "none.yaml"), Contains("none.yaml") && Contains("no such file"));
  CHECK_THROWS_WITH(load_config(dir), Contains("is a directory"));
  std::ofstream(dir / "large.yaml") << std::string((size_t{1} << 20) + 1, '#');
  CHECK_THROWS_WITH(load_config(dir / "large.yaml"), Contains("large.yaml: larger than"));
  std::ofstream(dir / "good.yaml") << valid_yaml;
  CHECK(load_config(dir / "good.yaml") == valid_config());
  fs::remove_all(dir);
}

TEST_CASE("damaged text ends in a configuration or in an Error, never otherwise") {
  std::mt19937 random(7);
  const std::string base = valid_yaml + "losses: {sp_weight: 1.0e-3, lb_scope: \"sequence\"}\n";
  const std::string letters = "{}[]:,&*!|>'\"%@`#-?\n\t 0.e~\\\xff\x80" + std::string(1, '\0');
  int refused = 0;
  for (int i = 0; i < 2000; ++i) {
    std::string yaml = base;
    for (int edit = 0; edit < 3; ++edit) yaml[random() % yaml.size()] = letters[random() % letters.size()];
    try {
      parse_config(yaml, "test.yaml");
    } catch (const Error&) {
      ++refused;
    }
  }
  CHECK(refused > 1000);
}
