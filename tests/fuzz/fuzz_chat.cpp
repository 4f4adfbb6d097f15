// Arbitrary text as a chat template in YAML, and as a line of a file of conversations: the first byte chooses. A template
// that is read renders a conversation, and becomes a program that is no other template's.
#include "chat/conversation.h"
#include "chat/jinja.h"
#include "chat/template_yaml.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace strand;
  if (size < 1) return 0;
  const std::string text(fuzz::text_of(data + 1, size - 1));
  if (data[0] % 2 == 0)
    return fuzz::attempt([&] {
      const ChatTemplate t = parse_template(text, "fuzz.yaml");
      const Conversation talk{{{Role::system, "a"}, {Role::user, " b "}, {Role::assistant, ""}}, "fuzz"};
      const std::string rendered = text_of(render(t, talk, RenderedEnd::generation_prompt), "<s>", "</s>");
      fuzz::claim(rendered.find('b') != rendered.npos, "the message is in the text");
      fuzz::claim(!to_jinja(t).empty(), "a template is a program");
    });
  return fuzz::attempt([&] {
    nlohmann::ordered_json record = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!record.is_object()) return;
    ConversationReader reader;
    reader.add(record, "fuzz");
    for (const Conversation& c : reader.finish("fuzz")) fuzz::claim(!c.messages.empty(), "a conversation has messages");
  });
}
