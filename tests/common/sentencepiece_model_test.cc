#include "common/sentencepiece_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "absl/strings/str_format.h"
#include "krait/sentencepiece_model.pb.h"

namespace krait {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

void AddPiece(const std::string& text, float score, int type, SentencePieceModel& model) {
  SentencePieceModel::Piece& piece = *model.add_pieces();
  piece.set_piece(text);
  piece.set_score(score);
  piece.set_type(type);
}

// <unk>, <s>, </s>, the byte tokens, then "ab" (id 259), "a", "b".
SentencePieceModel Model() {
  SentencePieceModel model;
  AddPiece("<unk>", 0, 2, model);
  AddPiece("<s>", 0, 3, model);
  AddPiece("</s>", 0, 3, model);
  for (int byte = 0; byte < 256; ++byte) AddPiece(absl::StrFormat("<0x%02X>", byte), 0, 6, model);
  AddPiece("ab", -1, 1, model);
  AddPiece("a", -2, 1, model);
  AddPiece("b", -3, 1, model);
  model.mutable_trainer_spec()->set_model_type(2);
  model.mutable_normalizer_spec()->set_remove_extra_whitespaces(false);
  return model;
}

absl::StatusOr<Vocabulary> Parse(const std::function<void(SentencePieceModel&)>& edit) {
  SentencePieceModel model = Model();
  edit(model);
  return ParseSentencePieceModel("m", model.SerializeAsString());
}

TEST(SentencePieceModelTest, SaysWhatTheFileSays) {
  const auto vocabulary = Parse([](SentencePieceModel&) {});
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  EXPECT_TRUE(ValidateVocabulary(*vocabulary).ok());
  EXPECT_EQ(vocabulary->pre_tokenizer, "prepend");
  EXPECT_THAT(vocabulary->merges, ElementsAre("a b"));
  EXPECT_EQ(vocabulary->bos_id, 1);
  EXPECT_THAT(vocabulary->eos_ids, ElementsAre(2));
  EXPECT_FALSE(vocabulary->pad_id.has_value());
  EXPECT_TRUE(vocabulary->add_bos);
  EXPECT_EQ(vocabulary->kinds[1], TokenKind::kControl);
  EXPECT_EQ(vocabulary->kinds[3], TokenKind::kByte);
}

TEST(SentencePieceModelTest, IdsAndPrefixMayBeAbsent) {
  const auto vocabulary = Parse([](SentencePieceModel& model) {
    model.mutable_trainer_spec()->set_bos_id(-1);
    model.mutable_trainer_spec()->set_eos_id(-1);
    model.mutable_normalizer_spec()->set_add_dummy_prefix(false);
  });
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  EXPECT_EQ(vocabulary->pre_tokenizer, "none");
  EXPECT_FALSE(vocabulary->bos_id.has_value());
  EXPECT_THAT(vocabulary->eos_ids, ElementsAre());
  EXPECT_FALSE(vocabulary->add_bos);
}

TEST(SentencePieceModelTest, RefusesByNameWhatItWouldReadWrongly) {
  const std::pair<const char*, std::function<void(SentencePieceModel&)>> cases[] = {
      {"trainer_spec.model_type: 1", [](auto& m) { m.mutable_trainer_spec()->clear_model_type(); }},
      {"trainer_spec.treat_whitespace_as_suffix",
       [](auto& m) { m.mutable_trainer_spec()->set_treat_whitespace_as_suffix(true); }},
      {"normalizer_spec.precompiled_charsmap",
       [](auto& m) { m.mutable_normalizer_spec()->set_precompiled_charsmap("x"); }},
      {"denormalizer_spec.precompiled_charsmap",
       [](auto& m) { m.mutable_denormalizer_spec()->set_precompiled_charsmap("x"); }},
      {"normalizer_spec.remove_extra_whitespaces", [](auto& m) { m.clear_normalizer_spec(); }},
      {"normalizer_spec.escape_whitespaces",
       [](auto& m) { m.mutable_normalizer_spec()->set_escape_whitespaces(false); }},
      {"pieces[259].type: 4", [](auto& m) { m.mutable_pieces(259)->set_type(4); }},
      {"pieces[259].type: 7", [](auto& m) { m.mutable_pieces(259)->set_type(7); }},
      {"not a number", [](auto& m) { m.mutable_pieces(259)->set_score(std::nanf("")); }}};
  for (const auto& [what, edit] : cases) {
    const absl::Status status = Parse(edit).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << what;
    EXPECT_THAT(status.message(), HasSubstr(what));
    EXPECT_THAT(status.message(), HasSubstr("m: "));
  }
  const std::string bytes = Model().SerializeAsString();
  EXPECT_THAT(ParseSentencePieceModel("m", bytes.substr(0, bytes.size() - 1)).status().message(),
              HasSubstr("cut short"));
}

// A folder as Mistral's and Zephyr's without their tokenizer.json.
class ModelFolderTest : public ::testing::Test {
 protected:
  ModelFolderTest() {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    Write("tokenizer.model", Model().SerializeAsString());
  }
  void Write(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << bytes;
  }
  std::string Error() { return std::string(Vocabulary::Load(folder_).status().message()); }

  const std::string folder_ = ::testing::TempDir() + "/sentencepiece_model";
};

TEST_F(ModelFolderTest, AModelFileAloneIsEnough) {
  const auto vocabulary = Vocabulary::Load(folder_);
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  EXPECT_EQ(vocabulary->pieces.size(), 262u);
  EXPECT_EQ(vocabulary->bos_id, 1);
}

TEST_F(ModelFolderTest, TheFilesBesideItSayMore) {
  Write("tokenizer_config.json", R"({"add_bos_token": false, "eos_token": "<|im_end|>",
      "legacy": true, "chat_template": "t", "added_tokens_decoder": {
      "263": {"content": "more", "special": false},
      "1": {"content": "<s>", "special": true, "lstrip": false},
      "262": {"content": "<|im_end|>", "special": true}}})");
  Write("added_tokens.json", R"({"<|im_end|>": 262})");
  const auto vocabulary = Vocabulary::Load(folder_);
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  EXPECT_FALSE(vocabulary->add_bos);
  EXPECT_EQ(vocabulary->chat_template, "t");
  EXPECT_THAT(vocabulary->eos_ids, ElementsAre(262));
  EXPECT_EQ(vocabulary->pieces[262], "<|im_end|>");
  EXPECT_EQ(vocabulary->kinds[262], TokenKind::kControl);
  EXPECT_EQ(vocabulary->kinds[263], TokenKind::kUserDefined);
}

TEST_F(ModelFolderTest, ATokenizerJsonCounts) {
  Write("tokenizer.json", "{}");
  EXPECT_THAT(Error(), HasSubstr("tokenizer.json: model: missing"));
}

TEST_F(ModelFolderTest, RefusesByNameWhatTheReferenceWouldDoOtherwise) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"legacy": false})", "legacy: must be true"},
      {R"({"added_tokens_decoder": []})", "added_tokens_decoder: not an object"},
      {R"({"added_tokens_decoder": {"x": {"content": "y"}}})", "added_tokens_decoder[\"x\"]"},
      {R"({"added_tokens_decoder": {"1": {"content": "y", "special": true}}})",
       "added_tokens_decoder[1]: contradicts"},
      {R"({"added_tokens_decoder": {"1": {"content": "<s>"}}})", "contradicts"},
      {R"({"added_tokens_decoder": {"262": {"content": ""}}})", "not empty"},
      {R"({"added_tokens_decoder": {"263": {"content": "y"}}})", "id 262 is missing"},
      {R"({"added_tokens_decoder": {"262": {"content": "y", "rstrip": true}}})",
       "added_tokens_decoder[262].rstrip"},
      {R"({"added_tokens_decoder": {"262": {"content": "y", "normalized": true}}})", "normalized"}};
  for (const auto& [config, what] : cases) {
    Write("tokenizer_config.json", config);
    EXPECT_THAT(Error(), HasSubstr(what));
    EXPECT_THAT(Error(), HasSubstr("tokenizer_config.json"));
  }
  Write("tokenizer_config.json", "{}");
  Write("added_tokens.json", R"({"<|im_end|>": 262})");
  EXPECT_THAT(Error(), HasSubstr("added_tokens.json: \"<|im_end|>\": neither in"));
}

}  // namespace
}  // namespace krait
