#include "coordinator/server/text_model.h"

#include <gtest/gtest.h>

#include "common/field_error.h"
#include "common/request_limits.h"

namespace krait {
namespace {

std::unique_ptr<const TextModel> ChatModel() {
  Vocabulary vocabulary = Vocabulary::Bytes({"<|im_start|>", "<|im_end|>"});
  vocabulary.chat_template =
      "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
      "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
      "'<|im_start|>assistant\n' }}{% endif %}";
  auto model = TextModel::Create(std::move(vocabulary));
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

v1::Chat ChatOf(int num_messages) {
  v1::Chat chat;
  for (int i = 0; i < num_messages; ++i) {
    v1::Message& message = *chat.add_messages();
    message.set_role(i % 2 == 0 ? "user" : "assistant");
    message.set_content("hi");
  }
  return chat;
}

TEST(TextModelTest, AChatHasAtMostSoManyMessages) {
  const auto model = ChatModel();
  const auto most = model->EncodeChat(ChatOf(kMaxChatMessages), false);
  EXPECT_TRUE(most.ok()) << most.status();
  const absl::Status status = model->EncodeChat(ChatOf(kMaxChatMessages + 1), false).status();
  EXPECT_EQ(ErrorField(status), "chat.messages");
  EXPECT_EQ(status.message(), "chat.messages: at most 1024 entries, got 1025");
  EXPECT_FALSE(model->EncodeChat(ChatOf(0), false).ok());
}

TEST(TextModelTest, AModelWithoutATemplateAnswersPromptsOnly) {
  const auto model = *TextModel::Create(Vocabulary::Bytes({"<|im_start|>"}));
  EXPECT_TRUE(model->EncodePrompt("hi", false).ok());
  EXPECT_EQ(ErrorField(model->EncodeChat(ChatOf(1), false).status()), "chat");
  EXPECT_EQ(model->chat_template_name(), "");
}

}  // namespace
}  // namespace krait
