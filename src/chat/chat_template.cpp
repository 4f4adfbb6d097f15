#include "chat/chat_template.h"

#include <iterator>
#include <utility>

#include "core/error.h"

namespace strand {

namespace {
class Renderer {
 public:
  Renderer(const ChatTemplate& chat_template, const Conversation& conversation)
      : template_(chat_template), conversation_(conversation) {}

  std::vector<Part> run(RenderedEnd end) {
    if (template_.bos) parts_.push_back({Part::Kind::bos, ""});
    if (template_.system_place == SystemPlace::own_turn)
      own_turns();
    else
      alternating_turns();
    if (end == RenderedEnd::generation_prompt) append_frame(template_.generation_prompt, parts_);
    std::erase_if(parts_, [](const Part& p) { return p.kind == Part::Kind::content && p.text.empty(); });
    return std::move(parts_);
  }

 private:
  /// The message at the begin, or the one that stands for it; null = none.
  const std::string* first_system() const {
    if (begins_with_system()) return &conversation_.messages.front().content;
    return template_.default_system.empty() ? nullptr : &template_.default_system;
  }
  bool begins_with_system() const { return conversation_.messages.front().role == Role::system; }

  void own_turns() {
    const std::string& first_suffix =
        template_.first_system_suffix.empty() ? template_.system_suffix : template_.first_system_suffix;
    if (!begins_with_system()) append_frame(template_.without_system, parts_);
    if (!begins_with_system() && first_system())
      add_turn(template_.system_prefix, {{Part::Kind::frame, template_.default_system}}, first_suffix);
    for (const Message& message : conversation_.messages) {
      std::vector<Part> body = {{Part::Kind::content, message.content}};
      const bool first = &message == &conversation_.messages.front();
      switch (message.role) {
        case Role::system:
          add_turn(template_.system_prefix, std::move(body), first ? first_suffix : template_.system_suffix);
          break;
        case Role::user:
          add_turn(template_.user_prefix, std::move(body), template_.user_suffix);
          break;
        case Role::assistant:
          add_turn(template_.assistant_prefix, std::move(body), template_.assistant_suffix);
      }
    }
  }

  void alternating_turns() {
    const size_t first = begins_with_system() ? 1 : 0;
    require(first < conversation_.messages.size(),
            "{}: a system message alone; template {} puts it into the turn of a user, and there is none",
            conversation_.where, template_.name);
    for (size_t i = first; i < conversation_.messages.size(); ++i) {
      const Message& message = conversation_.messages[i];
      const Role expected = (i - first) % 2 == 0 ? Role::user : Role::assistant;
      require(message.role == expected,
              "{}: message {} is of the {}, and in template {} user and assistant alternate, after at most one system "
              "message",
              conversation_.where, i + 1, to_string(message.role), template_.name);
      std::vector<Part> body;
      if (i == first && first_system()) add_system(body);
      body.push_back({Part::Kind::content, message.content});
      if (expected == Role::user)
        add_turn(template_.user_prefix, std::move(body), template_.user_suffix);
      else
        add_turn(template_.assistant_prefix, std::move(body), template_.assistant_suffix);
    }
  }

  void add_system(std::vector<Part>& body) const {
    append_frame(template_.system_prefix, body);
    body.push_back({begins_with_system() ? Part::Kind::content : Part::Kind::frame, *first_system()});
    append_frame(template_.system_suffix, body);
  }

  void add_turn(const std::string& prefix, std::vector<Part> body, const std::string& suffix) {
    if (template_.trim) trim(body);
    append_frame(prefix, parts_);
    parts_.insert(parts_.end(), std::make_move_iterator(body.begin()), std::make_move_iterator(body.end()));
    append_frame(suffix, parts_);
  }

  const ChatTemplate& template_;
  const Conversation& conversation_;
  std::vector<Part> parts_;
};
}  // namespace

std::vector<Part> render(const ChatTemplate& chat_template, const Conversation& conversation, RenderedEnd end) {
  require(!conversation.messages.empty(), "{}: a conversation without messages", conversation.where);
  return Renderer(chat_template, conversation).run(end);
}

std::string text_of(const std::vector<Part>& parts, const std::string& bos, const std::string& eos) {
  std::string text;
  for (const Part& part : parts) {
    if (part.kind == Part::Kind::bos)
      text += bos;
    else if (part.kind == Part::Kind::eos)
      text += eos;
    else
      text += part.text;
  }
  return text;
}

}  // namespace strand
