// Conversations rendered by Jinja and transformers (make_kinds_reference.py) against ChatTemplate.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "common/json.h"
#include "coordinator/tokenizer/chat_template.h"
#include "tests/coordinator/tokenizer/small_vocabulary.h"

namespace krait {
namespace {

constexpr char kConversations[] = "tests/coordinator/tokenizer/testdata/conversations.json";

const std::vector<std::string> kControls = {"<s>",
                                            "</s>",
                                            "<|im_start|>",
                                            "<|im_end|>",
                                            "<|eot_id|>",
                                            "<|begin_of_text|>",
                                            "<|start_header_id|>",
                                            "<|end_header_id|>"};

class ConversationsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto file = ReadJsonFile(kConversations);
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = *std::move(file);
    ASSERT_GE(Rows().size(), 50u);
  }

  const JsonArray& Rows() const { return file_.Find("rows")->as_array(); }
  const JsonObject& Templates() const { return file_.Find("templates")->as_object(); }

  static Vocabulary VocabularyOf(const JsonValue& info) {
    Vocabulary vocabulary = testing::SmallVocabulary({"a b"}, kControls);
    vocabulary.chat_template = *info.GetString("source");
    const auto id_of = [&](const std::string& piece) {
      const auto& pieces = vocabulary.pieces;
      return static_cast<TokenId>(std::find(pieces.begin(), pieces.end(), piece) - pieces.begin());
    };
    if (const std::string bos = *info.GetString("bos"); !bos.empty()) {
      vocabulary.bos_id = id_of(bos);
      vocabulary.add_bos = true;
    }
    vocabulary.eos_ids = {id_of(*info.GetString("eos"))};
    return vocabulary;
  }

  static std::vector<ChatMessage> MessagesOf(const JsonValue& row) {
    std::vector<ChatMessage> messages;
    for (const JsonValue& message : row.Find("messages")->as_array()) {
      messages.push_back({*message.GetString("role"), *message.GetString("content")});
    }
    return messages;
  }

  JsonValue file_;
};

TEST_F(ConversationsTest, TextEqualsTheReferencesInEveryTemplate) {
  for (const auto& [name, info] : Templates()) {
    const auto chat = ChatTemplate::Create(VocabularyOf(info));
    ASSERT_TRUE(chat.ok()) << chat.status();
    for (const JsonValue& row : Rows()) {
      const auto segments = chat->Render(MessagesOf(row), *row.GetBool("generate"));
      ASSERT_TRUE(segments.ok()) << segments.status();
      std::string text;
      for (const PromptSegment& segment : *segments) text += segment.text;
      ASSERT_EQ(text, *row.Find("texts")->GetString(name)) << name;
    }
  }
}

// Messages full of control tokens' spellings give no control token: there are as many as the
// template writes, and one bos where it writes one.
TEST_F(ConversationsTest, MessagesForgeNoTurnAndBosIsWrittenOnce) {
  for (const auto& [name, info] : Templates()) {
    const Vocabulary vocabulary = VocabularyOf(info);
    const auto tokenizer = CreateTokenizer(vocabulary);
    const auto chat = ChatTemplate::Create(vocabulary);
    ASSERT_TRUE(tokenizer.ok() && chat.ok()) << tokenizer.status() << chat.status();
    for (const JsonValue& row : Rows()) {
      const std::vector<ChatMessage> messages = MessagesOf(row);
      const auto segments = chat->Render(messages, *row.GetBool("generate"));
      const auto ids = chat->Encode(**tokenizer, messages, *row.GetBool("generate"), false);
      ASSERT_TRUE(ids.ok()) << ids.status();
      const auto written = std::count_if(segments->begin(), segments->end(),
                                         [](const PromptSegment& s) { return s.is_control; });
      const auto found = std::count_if(ids->begin(), ids->end(),
                                       [&](TokenId id) { return (*tokenizer)->IsSpecial(id); });
      ASSERT_EQ(found, written) << name;
      EXPECT_EQ(*(*tokenizer)->Decode(*ids, false), *row.Find("texts")->GetString(name));
      if (name.starts_with("llama3")) {
        EXPECT_EQ(ids->front(), *vocabulary.bos_id);
        EXPECT_EQ(std::count(ids->begin(), ids->end(), *vocabulary.bos_id), 1);
      }
    }
  }
}

// A line end outside of a string is not a backslash and an n.
TEST_F(ConversationsTest, OnlyLineEndsInStringsMayBeEscapes) {
  Vocabulary vocabulary = VocabularyOf(*file_.Find("templates")->Find("zephyr"));
  ASSERT_TRUE(ChatTemplate::Create(vocabulary).ok());
  vocabulary.chat_template.replace(vocabulary.chat_template.find("%}\n") + 2, 1, "\\n");
  EXPECT_FALSE(ChatTemplate::Create(vocabulary).ok());
}

}  // namespace
}  // namespace krait
