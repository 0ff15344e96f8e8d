#include "coordinator/tokenizer/chat_template.h"

#include <algorithm>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/json.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "coordinator/tokenizer/utf8.h"

namespace krait {
namespace {

constexpr std::string_view kTurnBegin = "<|im_start|>";
constexpr std::string_view kTurnEnd = "<|im_end|>";

struct KnownTemplate {
  std::string_view name;
  std::string_view source;  // line ends inside Jinja strings as "\n" escapes
  std::string_view default_system;
};

#define KRAIT_CHATML_TURNS                                                           \
  R"({{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>')" \
  R"( + '\n'}}{% endfor %}{% if add_generation_prompt %})"                           \
  R"({{ '<|im_start|>assistant\n' }}{% endif %})"

constexpr KnownTemplate kKnownTemplates[] = {
    {"SmolLM2 (ChatML with a default system message)",
     R"({% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %})"
     R"({{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by )"
     R"(Hugging Face<|im_end|>\n' }}{% endif %})" KRAIT_CHATML_TURNS,
     "You are a helpful AI assistant named SmolLM, trained by Hugging Face"},
    {"ChatML", "{% for message in messages %}" KRAIT_CHATML_TURNS, ""},
    {"ChatML with a default for add_generation_prompt",
     "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}"
     "{% endif %}{% for message in messages %}" KRAIT_CHATML_TURNS,
     ""},
};

// A line end inside a Jinja string may be written as itself or as an escape; in the known templates
// there are none outside of strings. Jinja drops one at the end of a file.
std::string Normalize(std::string_view source) {
  if (!source.empty() && source.back() == '\n') source.remove_suffix(1);
  return absl::StrReplaceAll(ToAbsl(source), {{"\n", "\\n"}});
}

absl::StatusOr<const KnownTemplate*> Recognize(const Vocabulary& vocabulary) {
  const std::string source = Normalize(vocabulary.chat_template);
  std::string names;
  for (const KnownTemplate& known : kKnownTemplates) {
    if (source == known.source) return &known;
    absl::StrAppend(&names, names.empty() ? "" : "; ", ToAbsl(known.name));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      vocabulary.source,
      ": chat_template: ", source.empty() ? "there is none" : "not one of those supported", " (",
      names, "): use a raw prompt"));
}

absl::StatusOr<TokenId> FindControl(const Vocabulary& vocabulary, std::string_view piece) {
  const auto it = std::find(vocabulary.pieces.begin(), vocabulary.pieces.end(), piece);
  const auto index = static_cast<size_t>(it - vocabulary.pieces.begin());
  if (it == vocabulary.pieces.end() || vocabulary.kinds[index] != TokenKind::kControl) {
    return absl::InvalidArgumentError(
        absl::StrCat(vocabulary.source, ": chat_template: writes ", ToAbsl(piece),
                     ", which is no control token of the vocabulary"));
  }
  return static_cast<TokenId>(index);
}

absl::Status CheckMessages(absl::Span<const ChatMessage> messages) {
  if (messages.empty()) return absl::InvalidArgumentError("messages is empty");
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role != "system" && role != "user" && role != "assistant") {
      return absl::InvalidArgumentError(
          absl::StrCat("messages[", i, "].role is ", QuoteJson(role.substr(0, 32)),
                       ", must be \"system\", \"user\" or \"assistant\""));
    }
    if (const std::optional<size_t> offset = FindInvalidUtf8(messages[i].content)) {
      return absl::InvalidArgumentError(
          absl::StrCat("messages[", i, "].content is not valid UTF-8 at byte ", *offset));
    }
  }
  return absl::OkStatus();
}

// Text between two control tokens is one segment: words may span what the template and the user
// wrote.
class SegmentWriter {
 public:
  void Text(std::string_view text) {
    if (segments_.empty() || segments_.back().is_control) segments_.push_back({"", false});
    segments_.back().text += text;
  }
  void Control(std::string_view spelling) { segments_.push_back({std::string(spelling), true}); }
  void Turn(std::string_view role, std::string_view content) {
    Control(kTurnBegin);
    Text(role);
    Text("\n");
    Text(content);
    Control(kTurnEnd);
    Text("\n");
  }
  std::vector<PromptSegment> Take() { return std::move(segments_); }

 private:
  std::vector<PromptSegment> segments_;
};

}  // namespace

absl::StatusOr<ChatTemplate> ChatTemplate::Create(const Vocabulary& vocabulary) {
  ASSIGN_OR_RETURN(const KnownTemplate* known, Recognize(vocabulary));
  ASSIGN_OR_RETURN(const TokenId turn_begin, FindControl(vocabulary, kTurnBegin));
  ASSIGN_OR_RETURN(const TokenId turn_end, FindControl(vocabulary, kTurnEnd));
  return ChatTemplate(known->name, known->default_system, turn_begin, turn_end);
}

absl::StatusOr<std::vector<PromptSegment>> ChatTemplate::Render(
    absl::Span<const ChatMessage> messages, bool add_generation_prompt) const {
  RETURN_IF_ERROR(CheckMessages(messages));
  SegmentWriter writer;
  if (!default_system_.empty() && messages[0].role != "system") {
    writer.Turn("system", default_system_);
  }
  for (const ChatMessage& message : messages) writer.Turn(message.role, message.content);
  if (add_generation_prompt) {
    writer.Control(kTurnBegin);
    writer.Text("assistant\n");
  }
  return writer.Take();
}

absl::StatusOr<std::vector<TokenId>> ChatTemplate::Encode(const Tokenizer& tokenizer,
                                                          absl::Span<const ChatMessage> messages,
                                                          bool add_generation_prompt,
                                                          bool allow_special) const {
  ASSIGN_OR_RETURN(const std::vector<PromptSegment> segments,
                   Render(messages, add_generation_prompt));
  std::vector<TokenId> ids;
  for (const PromptSegment& segment : segments) {
    if (segment.is_control) {
      ids.push_back(segment.text == kTurnBegin ? turn_begin_ : turn_end_);
      continue;
    }
    ASSIGN_OR_RETURN(const std::vector<TokenId> more,
                     tokenizer.Encode(segment.text, allow_special));
    ids.insert(ids.end(), more.begin(), more.end());
  }
  return ids;
}

}  // namespace krait
