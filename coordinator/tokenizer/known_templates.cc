#include "coordinator/tokenizer/known_templates.h"

#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace krait {
namespace {

#define KRAIT_CHATML_TURNS                                                           \
  R"({{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>')" \
  R"( + '\n'}}{% endfor %}{% if add_generation_prompt %})"                           \
  R"({{ '<|im_start|>assistant\n' }}{% endif %})"

#define KRAIT_LLAMA3_TURNS                                                                \
  R"({% set loop_messages = messages %}{% for message in loop_messages %})"               \
  R"({% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n')" \
  R"(+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %})"             \
  R"({% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %})"

constexpr KnownTemplate kKnownTemplates[] = {
    {"SmolLM2 (ChatML with a default system message)", TemplateFamily::kChatMl,
     R"({% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %})"
     R"({{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by )"
     R"(Hugging Face<|im_end|>\n' }}{% endif %})" KRAIT_CHATML_TURNS,
     "You are a helpful AI assistant named SmolLM, trained by Hugging Face"},
    {"ChatML", TemplateFamily::kChatMl, "{% for message in messages %}" KRAIT_CHATML_TURNS, ""},
    {"ChatML with a default for add_generation_prompt", TemplateFamily::kChatMl,
     "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}"
     "{% endif %}{% for message in messages %}" KRAIT_CHATML_TURNS,
     ""},
    {"Llama 3", TemplateFamily::kLlama3,
     KRAIT_LLAMA3_TURNS R"({% if add_generation_prompt %})"
                        R"({{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %})",
     ""},
    {"Llama 3 that always prompts", TemplateFamily::kLlama3,
     KRAIT_LLAMA3_TURNS R"({{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }})", "", true},
    {"Zephyr", TemplateFamily::kZephyr,
     "{% for message in messages %}\n"
     R"({% if message['role'] == 'user' %})"
     "\n"
     R"({{ '<|user|>\n' + message['content'] + eos_token }})"
     "\n"
     R"({% elif message['role'] == 'system' %})"
     "\n"
     R"({{ '<|system|>\n' + message['content'] + eos_token }})"
     "\n"
     R"({% elif message['role'] == 'assistant' %})"
     "\n"
     R"({{ '<|assistant|>\n'  + message['content'] + eos_token }})"
     "\n"
     "{% endif %}\n"
     "{% if loop.last and add_generation_prompt %}\n"
     "{{ '<|assistant|>' }}\n"
     "{% endif %}\n"
     "{% endfor %}",
     ""},
};

// Writes line ends inside strings as escapes. Known templates have neither comments nor escaped
// quotes; what a source with them becomes is known nowhere.
std::string Normalize(std::string_view source) {
  if (source.ends_with('\n')) source.remove_suffix(1);
  std::string text;
  bool in_block = false, in_string = false;
  for (size_t i = 0; i < source.size(); ++i) {
    const std::string_view pair = source.substr(i, 2);
    if (!in_string && (pair == "{{" || pair == "{%")) in_block = true;
    if (!in_string && (pair == "}}" || pair == "%}")) in_block = false;
    if (in_block && source[i] == '\'') in_string = !in_string;
    if (in_string && source[i] == '\n') {
      text += "\\n";
    } else {
      text += source[i];
    }
  }
  return text;
}

}  // namespace

const KnownTemplate* FindKnownTemplate(std::string_view source) {
  const std::string normal = Normalize(source);
  for (const KnownTemplate& known : kKnownTemplates) {
    if (normal == known.source) return &known;
  }
  return nullptr;
}

std::string KnownTemplateNames() {
  std::string names;
  for (const KnownTemplate& known : kKnownTemplates) {
    absl::StrAppend(&names, names.empty() ? "" : "; ", ToAbsl(known.name));
  }
  return names;
}

}  // namespace krait
