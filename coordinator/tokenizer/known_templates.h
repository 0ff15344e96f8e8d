#pragma once

// The chat templates that are served, each known by its whole text.

#include <string>
#include <string_view>

namespace krait {

enum class TemplateFamily {
  kChatMl,  // <|im_start|>ROLE \n CONTENT <|im_end|> \n
  // bos; <|start_header_id|>ROLE<|end_header_id|> \n \n CONTENT <|eot_id|>, content without white
  // space at its ends
  kLlama3,
  // <|ROLE|> \n CONTENT eos \n; the role is ordinary text
  kZephyr,
};

struct KnownTemplate {
  std::string_view name;
  TemplateFamily family;
  std::string_view source;          // line ends inside Jinja strings as "\n" escapes
  std::string_view default_system;  // put first if the first message is no system message
  bool always_prompts = false;      // writes the generation prompt whether asked or not
};

// Null if `source` is none of those known. A line end inside a Jinja string may be written as
// itself or as an escape, and Jinja drops one at the end of a file; nothing else may differ.
const KnownTemplate* FindKnownTemplate(std::string_view source);

// For messages: "ChatML; Llama 3; ...".
std::string KnownTemplateNames();

}  // namespace krait
