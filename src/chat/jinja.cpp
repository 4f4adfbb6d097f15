#include "chat/jinja.h"

#include "chat/frame.h"

namespace strand {

namespace {
/// A string of Jinja. It knows the escapes of Python.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\\' || c == '\'')
      out += std::string("\\") + c;
    else if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\t')
      out += "\\t";
    else
      out += c;
  }
  return out + "'";
}

/// Appends a term to a sum.
void add(std::string& sum, const std::string& term) {
  sum += (sum.empty() ? "" : " + ") + term;
}

/// Appends a text of the template, with the special tokens as variables.
void add_text(std::string& sum, const std::string& text) {
  std::vector<Part> parts;
  append_frame(text, parts);
  for (const Part& part : parts) {
    if (part.kind == Part::Kind::bos)
      add(sum, "bos_token");
    else if (part.kind == Part::Kind::eos)
      add(sum, "eos_token");
    else
      add(sum, quoted(part.text));
  }
}

std::string output(const std::string& expression) {
  return "{{ " + expression + " }}";
}

class Program {
 public:
  explicit Program(const ChatTemplate& chat_template) : t_(chat_template) {}

  std::string text() const {
    std::string out = t_.bos ? output("bos_token") : "";
    out += t_.system_place == SystemPlace::own_turn ? own_turns() : alternating_turns();
    if (!t_.generation_prompt.empty()) {
      std::string prompt;
      add_text(prompt, t_.generation_prompt);
      out += "{% if add_generation_prompt %}" + output(prompt) + "{% endif %}";
    }
    return out;
  }

 private:
  std::string body(const std::string& expression) const { return expression + (t_.trim ? " | trim" : ""); }

  std::string turn(const std::string& prefix, const std::string& content, const std::string& suffix) const {
    std::string sum;
    add_text(sum, prefix);
    add(sum, content);
    add_text(sum, suffix);
    return output(sum);
  }

  std::string own_turns() const {
    const std::string first_suffix = t_.first_system_suffix.empty() ? t_.system_suffix : t_.first_system_suffix;
    std::string begin;
    if (!t_.without_system.empty()) {
      std::string text;
      add_text(text, t_.without_system);
      begin += output(text);
    }
    if (!t_.default_system.empty())
      begin += turn(t_.system_prefix, quoted(t_.trim ? trimmed(t_.default_system) : t_.default_system), first_suffix);
    std::string out = begin.empty() ? "" : "{% if messages[0]['role'] != 'system' %}" + begin + "{% endif %}";
    const std::string content = body("message['content']");
    out += "{% for message in messages %}";
    out += first_suffix == t_.system_suffix
               ? "{% if message['role'] == 'system' %}"
               : "{% if message['role'] == 'system' and loop.first %}" + turn(t_.system_prefix, content, first_suffix) +
                     "{% elif message['role'] == 'system' %}";
    return out + turn(t_.system_prefix, content, t_.system_suffix) + "{% elif message['role'] == 'user' %}" +
           turn(t_.user_prefix, content, t_.user_suffix) + "{% elif message['role'] == 'assistant' %}" +
           turn(t_.assistant_prefix, content, t_.assistant_suffix) + "{% else %}" +
           output("raise_exception('There are the roles system, user and assistant')") + "{% endif %}{% endfor %}";
  }

  /// The system text before the content of the first user, as an expression.
  std::string system_text(const std::string& content) const {
    std::string sum;
    add_text(sum, t_.system_prefix);
    add(sum, content);
    add_text(sum, t_.system_suffix);
    return sum;
  }

  std::string alternating_turns() const {
    const std::string otherwise = t_.default_system.empty() ? "''" : system_text(quoted(t_.default_system));
    return "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}{% set system = " +
           system_text("messages[0]['content']") +
           " %}{% else %}{% set turns = messages %}{% set system = " + otherwise +
           " %}{% endif %}{% for message in turns %}{% if message['role'] != ('user' if loop.index0 % 2 == 0 else "
           "'assistant') %}" +
           output("raise_exception('user and assistant alternate, after at most one system message')") +
           "{% elif message['role'] == 'user' %}{% set content = (system if loop.first else '') + message['content'] "
           "%}" +
           turn(t_.user_prefix, body("content"), t_.user_suffix) + "{% else %}" +
           turn(t_.assistant_prefix, body("message['content']"), t_.assistant_suffix) + "{% endif %}{% endfor %}";
  }

  const ChatTemplate& t_;
};
}  // namespace

std::string to_jinja(const ChatTemplate& chat_template) {
  return Program(chat_template).text();
}

}  // namespace strand
