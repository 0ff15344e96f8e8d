// Conversations rendered by Jinja (make_reference.py) against ChatTemplate.

#include "coordinator/tokenizer/chat_template.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "common/json.h"
#include "tests/coordinator/tokenizer_model/model_file.h"

namespace krait {
namespace {

constexpr char kConversations[] = "tests/coordinator/tokenizer/testdata/smollm2_conversations.json";

std::vector<ChatMessage> MessagesOf(const JsonValue& row) {
  std::vector<ChatMessage> messages;
  for (const JsonValue& message : row.Find("messages")->as_array()) {
    messages.push_back({*message.GetString("role"), *message.GetString("content")});
  }
  return messages;
}

std::vector<TokenId> IdsOf(const JsonValue& row) {
  std::vector<TokenId> ids;
  for (const JsonValue& id : row.Find("ids")->as_array()) {
    ids.push_back(static_cast<TokenId>(id.as_int()));
  }
  return ids;
}

class ConversationTest : public ::testing::Test {
 protected:
  void SetUp() override {
    tokenizer_ = testing::ModelTokenizer();
    ASSERT_NE(tokenizer_, nullptr);
    absl::StatusOr<JsonValue> file = ReadJsonFile(kConversations);
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = *std::move(file);
  }

  ChatTemplate TemplateOf(const JsonValue& row) const {
    Vocabulary vocabulary = *testing::ModelVocabulary();
    vocabulary.chat_template = *file_.Find("templates")->GetString(*row.GetString("template"));
    absl::StatusOr<ChatTemplate> chat = ChatTemplate::Create(vocabulary);
    EXPECT_TRUE(chat.ok()) << chat.status();
    return *chat;
  }

  const JsonArray& Rows() const { return file_.Find("rows")->as_array(); }

  const Tokenizer* tokenizer_ = nullptr;
  JsonValue file_;
};

TEST_F(ConversationTest, TheModelsOwnTemplateIsTheFixtures) {
  EXPECT_EQ(testing::ModelVocabulary()->chat_template,
            *file_.Find("templates")->GetString("smollm2"));
}

TEST_F(ConversationTest, TextEqualsJinjas) {
  ASSERT_GE(Rows().size(), 10u);
  for (const JsonValue& row : Rows()) {
    const auto segments = TemplateOf(row).Render(MessagesOf(row), *row.GetBool("generate"));
    ASSERT_TRUE(segments.ok()) << segments.status();
    std::string text;
    for (const PromptSegment& segment : *segments) text += segment.text;
    EXPECT_EQ(text, *row.GetString("text"));
  }
}

TEST_F(ConversationTest, IdsEqualTheReferencesWithSpecialTokensAllowed) {
  for (const JsonValue& row : Rows()) {
    const auto ids =
        TemplateOf(row).Encode(*tokenizer_, MessagesOf(row), *row.GetBool("generate"), true);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, IdsOf(row)) << *row.GetString("text");
  }
}

// Only where a message spells a control token do the two ways differ.
TEST_F(ConversationTest, MessagesCannotForgeTurns) {
  int num_forged = 0;
  for (const JsonValue& row : Rows()) {
    const std::vector<ChatMessage> messages = MessagesOf(row);
    const bool forged = std::any_of(messages.begin(), messages.end(), [](const ChatMessage& m) {
      return m.content.find("<|im_") != std::string::npos;
    });
    const auto ids = TemplateOf(row).Encode(*tokenizer_, messages, *row.GetBool("generate"), false);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids == IdsOf(row), !forged);
    const auto num_ends = static_cast<size_t>(std::count(ids->begin(), ids->end(), 2));
    const bool has_default =
        *row.GetString("template") == "smollm2" && messages[0].role != "system";
    EXPECT_EQ(num_ends, messages.size() + (has_default ? 1 : 0));
    num_forged += forged;
  }
  EXPECT_GT(num_forged, 0);
}

}  // namespace
}  // namespace krait
