#include "coordinator/tokenizer/chat_template.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/json.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "coordinator/tokenizer/utf8.h"

namespace krait {
namespace {

constexpr std::string_view kTurnBegin = "<|im_start|>";
constexpr std::string_view kTurnEnd = "<|im_end|>";
constexpr std::string_view kHeaderBegin = "<|start_header_id|>";
constexpr std::string_view kHeaderEnd = "<|end_header_id|>";
constexpr std::string_view kEndOfTurn = "<|eot_id|>";

absl::Status TemplateError(const Vocabulary& vocabulary, std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(vocabulary.source, ": chat_template: ", ToAbsl(what)));
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
  std::vector<PromptSegment> Take() {
    std::erase_if(segments_, [](const PromptSegment& segment) { return segment.text.empty(); });
    return std::move(segments_);
  }

 private:
  std::vector<PromptSegment> segments_;
};

// What Python's str.strip() takes for white space, each in UTF-8.
constexpr std::string_view kPythonSpaces[] = {
    "\t",           "\n",           "\v",           "\f",           "\r",
    "\x1c",         "\x1d",         "\x1e",         "\x1f",         " ",
    "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x81",
    "\xe2\x80\x82", "\xe2\x80\x83", "\xe2\x80\x84", "\xe2\x80\x85", "\xe2\x80\x86",
    "\xe2\x80\x87", "\xe2\x80\x88", "\xe2\x80\x89", "\xe2\x80\x8a", "\xe2\x80\xa8",
    "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"};

std::string_view Trim(std::string_view text) {
  const auto strip = [&](auto matches, auto remove) {
    for (bool found = true; found;) {
      found = false;
      for (std::string_view space : kPythonSpaces) {
        if (!matches(space)) continue;
        remove(space.size());
        found = true;
      }
    }
  };
  strip([&](std::string_view space) { return text.starts_with(space); },
        [&](size_t size) { text.remove_prefix(size); });
  strip([&](std::string_view space) { return text.ends_with(space); },
        [&](size_t size) { text.remove_suffix(size); });
  return text;
}

void ChatMlTurn(const ChatMessage& message, SegmentWriter& writer) {
  writer.Control(kTurnBegin);
  writer.Text(message.role);
  writer.Text("\n");
  writer.Text(message.content);
  writer.Control(kTurnEnd);
  writer.Text("\n");
}

void Llama3Header(std::string_view role, SegmentWriter& writer) {
  writer.Control(kHeaderBegin);
  writer.Text(role);
  writer.Control(kHeaderEnd);
  writer.Text("\n\n");
}

void ZephyrHeader(std::string_view role, SegmentWriter& writer) {
  writer.Text("<|");
  writer.Text(role);
  writer.Text("|>\n");
}

}  // namespace

absl::Status ChatTemplate::AddControl(const Vocabulary& vocabulary, std::string_view piece) {
  const auto it = std::find(vocabulary.pieces.begin(), vocabulary.pieces.end(), piece);
  const auto index = static_cast<size_t>(it - vocabulary.pieces.begin());
  if (it == vocabulary.pieces.end() || vocabulary.kinds[index] != TokenKind::kControl) {
    return TemplateError(vocabulary, absl::StrCat("writes ", ToAbsl(piece),
                                                  ", which is no control token of the vocabulary"));
  }
  controls_[std::string(piece)] = static_cast<TokenId>(index);
  return absl::OkStatus();
}

absl::StatusOr<ChatTemplate> ChatTemplate::Create(const Vocabulary& vocabulary) {
  const KnownTemplate* known = FindKnownTemplate(vocabulary.chat_template);
  if (known == nullptr) {
    return TemplateError(
        vocabulary, absl::StrCat(vocabulary.chat_template.empty() ? "there is none"
                                                                  : "not one of those supported",
                                 " (", KnownTemplateNames(), "): use a raw prompt"));
  }
  ChatTemplate chat(*known);
  std::vector<std::string> controls;
  switch (known->family) {
    case TemplateFamily::kChatMl:
      controls = {std::string(kTurnBegin), std::string(kTurnEnd)};
      break;
    case TemplateFamily::kLlama3:
      if (!vocabulary.bos_id) return TemplateError(vocabulary, "writes bos, but there is none");
      chat.bos_ = vocabulary.pieces[static_cast<size_t>(*vocabulary.bos_id)];
      controls = {chat.bos_, std::string(kHeaderBegin), std::string(kHeaderEnd),
                  std::string(kEndOfTurn)};
      break;
    case TemplateFamily::kZephyr:
      if (vocabulary.eos_ids.empty()) return TemplateError(vocabulary, "writes eos; there is none");
      chat.eos_ = vocabulary.pieces[static_cast<size_t>(vocabulary.eos_ids.front())];
      controls = {chat.eos_};
      break;
  }
  for (const std::string& control : controls) {
    RETURN_IF_ERROR(chat.AddControl(vocabulary, control));
  }
  return chat;
}

absl::StatusOr<std::vector<PromptSegment>> ChatTemplate::Render(
    absl::Span<const ChatMessage> messages, bool add_generation_prompt) const {
  RETURN_IF_ERROR(CheckMessages(messages));
  std::vector<ChatMessage> turns(messages.begin(), messages.end());
  if (!known_->default_system.empty() && turns[0].role != "system") {
    turns.insert(turns.begin(), {"system", std::string(known_->default_system)});
  }
  const bool prompts = add_generation_prompt || known_->always_prompts;
  SegmentWriter writer;
  switch (known_->family) {
    case TemplateFamily::kChatMl:
      for (const ChatMessage& turn : turns) ChatMlTurn(turn, writer);
      if (!prompts) break;
      writer.Control(kTurnBegin);
      writer.Text("assistant\n");
      break;
    case TemplateFamily::kLlama3:
      writer.Control(bos_);
      for (const ChatMessage& turn : turns) {
        Llama3Header(turn.role, writer);
        writer.Text(Trim(turn.content));
        writer.Control(kEndOfTurn);
      }
      if (prompts) Llama3Header("assistant", writer);
      break;
    case TemplateFamily::kZephyr:
      for (const ChatMessage& turn : turns) {
        ZephyrHeader(turn.role, writer);
        writer.Text(turn.content);
        writer.Control(eos_);
        writer.Text("\n");
      }
      if (prompts) ZephyrHeader("assistant", writer);
      break;
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
      ids.push_back(controls_.at(segment.text));
      continue;
    }
    ASSIGN_OR_RETURN(const std::vector<TokenId> more,
                     tokenizer.EncodePart(segment.text, allow_special, /*at_start=*/ids.empty()));
    ids.insert(ids.end(), more.begin(), more.end());
  }
  return ids;
}

}  // namespace krait
