#include "cli/manual.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/command_line.h"
#include "config/schema.h"
#include "core/version.h"

namespace strand::cli {

namespace {
/// Text in which roff finds no command: backslashes, hyphens that are to be copied, points at the beginning of a line.
std::string roff(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else
      out += c;
  }
  if (!out.empty() && (out[0] == '.' || out[0] == '\'')) out.insert(0, "\\&");
  return out;
}

std::string bold(const std::string& text) {
  return "\\fB" + roff(text) + "\\fR";
}

std::string italic(const std::string& text) {
  return "\\fI" + roff(text) + "\\fR";
}

/// Words to type are bold, placeholders are in italics: "fp32|bf16", "auto|DIR".
std::string value_text(const ArgumentInfo& argument) {
  if (argument.words.empty()) return italic(argument.value);
  std::string text;
  size_t begin = 0;
  while (begin <= argument.value.size()) {
    const size_t end = std::min(argument.value.find('|', begin), argument.value.size());
    const std::string part = argument.value.substr(begin, end - begin);
    const bool word = std::find(argument.words.begin(), argument.words.end(), part) != argument.words.end();
    text += (text.empty() ? "" : "|") + (word ? bold(part) : italic(part));
    begin = end + 1;
  }
  return text;
}

std::string argument_text(const ArgumentInfo& argument) {
  std::string head;
  for (const std::string& name : argument.names) {
    const bool positional = name[0] != '-';
    head += (head.empty() ? "" : ", ") + (positional ? italic(name) : bold(name));
  }
  if (!argument.is_flag()) head += " " + value_text(argument);
  const bool required = argument.presence == ArgumentInfo::Presence::required && !argument.is_flag();
  return fmt::format(".TP\n{}\n{}{}\n", head, roff(argument.meaning), required ? " (required)" : "");
}

std::string synopsis(const CommandInfo& command) {
  std::string text = bold("strand " + command.name);
  for (const ArgumentInfo& positional : command.positionals) {
    const std::string many = positional.count == ArgumentInfo::Count::many ? "..." : "";
    const bool required = positional.presence == ArgumentInfo::Presence::required;
    const std::string name = italic(positional.name()) + many;
    text += required ? " " + name : " [" + name + "]";
  }
  return text + " [" + italic("options") + "]";
}

std::string command_text(const CommandInfo& command) {
  std::string text = fmt::format(".SS {}\n{}.\n", synopsis(command), roff(command.meaning));
  for (const ArgumentInfo& positional : command.positionals) text += argument_text(positional);
  for (const ArgumentInfo& option : command.options) text += argument_text(option);
  if (!command.example.empty())
    text += fmt::format(".PP\nExample:\n.PP\n.RS\n.nf\n{}\n.fi\n.RE\n", roff(command.example));
  return text;
}

std::string key_text(const KeyText& key) {
  const std::string default_text = key.default_value == "required" ? key.default_value : "default " + key.default_value;
  return fmt::format(".TP\n{}: {}; {}\n{}\n", bold(key.path), roff(key.range), roff(default_text), roff(key.meaning));
}

constexpr const char* description = R"(.SH DESCRIPTION
strand trains Mixture\-of\-Experts language models, from plain text, on an ordinary CPU. It is one program with a command
for each task. A run of training is described by a YAML file; every command says what it takes with
.BR \-\-help .
.PP
The usual way: a tokenizer is trained on text
.RB ( train\-tokenizer ),
the text becomes token files
.RB ( tokenize ),
a configuration is looked at
.RB ( config ", " plan ),
a model is trained
.RB ( train ),
measured
.RB ( eval ", " score ),
used
.RB ( generate )
and taken elsewhere
.RB ( export ).
)";

constexpr const char* other_sections = R"(.SH FILES
.TP
.I DIR/NAME/
The directory of a run (run.dir and run.name): config.yaml, log.jsonl with one JSON object a step, events for
TensorBoard, and checkpoints/.
.TP
.I step_00001000/
A checkpoint: safetensors files, config.yaml, tokenizer.model or tokenizer.json, state.json, and manifest.json with a
checksum of every other file.
.SH ENVIRONMENT
.TP
.B STRAND_ISA
A lower level of instruction sets for the kernels than the highest that this CPU has: portable, avx2, avx512 or
avx512_bf16.
.TP
.B OMP_NUM_THREADS
Threads at most, where run.threads or \-\-threads do not say it.
.TP
.B OMP_WAIT_POLICY
.I passive
lets waiting threads sleep at once: better where other programs use the same cores.
.SH SIGNALS
SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU make
.B strand train
save a checkpoint and exit with 0. A second SIGINT or SIGTERM ends it at once. Signals that were ignored at the start stay
ignored.
.SH EXIT STATUS
.TP
.B 0
Success; also of a training run that a signal stopped.
.TP
.B 1
An error, which one line on standard error explains; of
.BR "strand verify" ,
a file that failed.
.TP
.B 2
The command line cannot be understood.
.SH SEVERAL PROCESSES
.BR train ", " bench ", " verify ", " score " and " "eval \-\-tasks"
run as several processes when
.B mpirun
or
.B srun
starts them; the scripts in scripts/launch of the source show how.
.SH SEE ALSO
.BR mpirun (1)
)";

}  // namespace

std::string manual_page(const CLI::App& app) {
  std::string text = fmt::format(".TH STRAND 1 \"\" \"strand {}\" \"User Commands\"\n", roff(program_version()));
  text += ".SH NAME\nstrand \\- trainer for Mixture\\-of\\-Experts language models\n.SH SYNOPSIS\n";
  const std::vector<CommandInfo> commands = program_commands(app);
  for (const CommandInfo& command : commands) text += synopsis(command) + "\n.br\n";
  text += "\\fBstrand \\-\\-help\\fR | \\fB\\-\\-version\\fR\n";
  text += description;
  text += ".SH COMMANDS\n";
  for (const CommandInfo& command : commands) text += command_text(command);
  text +=
      ".SH CONFIGURATION\nKeys of a configuration, with their range and their default. A key stands in its group: "
      "moe.top_k is\n.IR top_k \" in \" moe .\n";
  for (const KeyText& key : config_keys()) text += key_text(key);
  return text + other_sections;
}

}  // namespace strand::cli
