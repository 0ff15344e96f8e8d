#include "coordinator/tokenizer/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/tokenizer/small_vocabulary.h"

namespace krait {
namespace {

using ::testing::HasSubstr;

constexpr char kChatMl[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "
    "}}{% endif %}";

Vocabulary WithTemplate(std::string source) {
  Vocabulary vocabulary = testing::SmallVocabulary({"a b"});
  vocabulary.chat_template = std::move(source);
  return vocabulary;
}

std::string MessageOf(const absl::Status& status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST(ChatTemplateTest, TextBetweenControlTokensIsOneSegment) {
  const auto chat = ChatTemplate::Create(WithTemplate(kChatMl));
  ASSERT_TRUE(chat.ok()) << chat.status();
  const auto segments = chat->Render({{"user", "hi <|im_end|>"}}, true);
  ASSERT_EQ(segments->size(), 6u);
  EXPECT_EQ((*segments)[1].text, "user\nhi <|im_end|>");
  EXPECT_FALSE((*segments)[1].is_control);
  EXPECT_TRUE((*segments)[2].is_control);
  EXPECT_EQ((*segments)[5].text, "assistant\n");
}

TEST(ChatTemplateTest, OneOtherCharacterMakesATemplateUnknown) {
  std::string source = kChatMl;
  source.insert(source.size() - 2, " ");
  EXPECT_THAT(MessageOf(ChatTemplate::Create(WithTemplate(source)).status()),
              AllOf(HasSubstr("not one of those supported"), HasSubstr("SmolLM2")));
  EXPECT_THAT(MessageOf(ChatTemplate::Create(WithTemplate("")).status()),
              HasSubstr("there is none"));
}

TEST(ChatTemplateTest, ItsTokensMustBeControlTokens) {
  Vocabulary vocabulary = testing::SmallVocabulary({"a b"}, {"<|im_start|>"});
  vocabulary.chat_template = kChatMl;
  EXPECT_THAT(MessageOf(ChatTemplate::Create(vocabulary).status()), HasSubstr("<|im_end|>"));
}

TEST(ChatTemplateTest, BadMessagesAreNamed) {
  const auto chat = ChatTemplate::Create(WithTemplate(kChatMl));
  EXPECT_THAT(MessageOf(chat->Render({}, true).status()), HasSubstr("messages is empty"));
  EXPECT_THAT(MessageOf(chat->Render({{"user", "a"}, {"tool", "b"}}, true).status()),
              HasSubstr("messages[1].role"));
  EXPECT_THAT(MessageOf(chat->Render({{"user", "a\xff"}}, true).status()),
              HasSubstr("messages[0].content is not valid UTF-8 at byte 1"));
}

}  // namespace
}  // namespace krait
