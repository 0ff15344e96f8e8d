#include "common/vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "common/byte_alphabet.h"
#include "common/tokenizer_writer.h"
#include "tests/support/gguf_writer.h"

namespace krait {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The 256 bytes, "ab", "abc", a control and a user-defined token.
Vocabulary Example() {
  Vocabulary vocabulary = Vocabulary::Bytes({});
  vocabulary.pre_tokenizer = "smollm";
  for (const char* piece : {"ab", "abc", "<|end|>", "<think>"}) vocabulary.pieces.push_back(piece);
  vocabulary.kinds.resize(258, TokenKind::kNormal);
  vocabulary.kinds.push_back(TokenKind::kControl);
  vocabulary.kinds.push_back(TokenKind::kUserDefined);
  vocabulary.merges = {"a b", "ab c"};
  vocabulary.bos_id = 258;
  vocabulary.eos_ids = {258};
  vocabulary.chat_template = "{{ 'x' }}";
  vocabulary.source = "example";
  return vocabulary;
}

class VocabularyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "/vocabulary_" +
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(Path(name), std::ios::binary) << text;
  }

  void WriteGguf(const Vocabulary& vocabulary, const std::string& name = "m.gguf") const {
    std::vector<int32_t> types;
    for (TokenKind kind : vocabulary.kinds) {
      types.push_back(kind == TokenKind::kControl ? 3 : kind == TokenKind::kUserDefined ? 4 : 1);
    }
    testing::GgufWriter writer;
    writer.AddString("tokenizer.ggml.model", vocabulary.model);
    writer.AddString("tokenizer.ggml.pre", vocabulary.pre_tokenizer);
    writer.AddStrings("tokenizer.ggml.tokens", vocabulary.pieces);
    writer.AddInt32s("tokenizer.ggml.token_type", types);
    writer.AddStrings("tokenizer.ggml.merges", vocabulary.merges);
    writer.AddUint32("tokenizer.ggml.bos_token_id", 258);
    writer.AddUint32("tokenizer.ggml.eos_token_id", 258);
    writer.AddString("tokenizer.chat_template", vocabulary.chat_template);
    writer.Write(Path(name));
  }

  void WriteFolder(const Vocabulary& vocabulary) const {
    const auto json = TokenizerJson(vocabulary);
    ASSERT_TRUE(json.ok()) << json.status();
    Write("tokenizer.json", *json);
    Write("tokenizer_config.json", TokenizerConfigJson(vocabulary, 128));
    Write("generation_config.json", GenerationConfigJson(vocabulary));
  }

  // tokenizer.json with one piece of its text replaced.
  void WriteFolderWith(const std::string& old_text, const std::string& new_text) const {
    std::string json = *TokenizerJson(Example());
    const size_t at = json.find(old_text);
    ASSERT_NE(at, std::string::npos) << old_text;
    Write("tokenizer.json", json.replace(at, old_text.size(), new_text));
  }

  std::string LoadError() const {
    const auto loaded = Vocabulary::Load(folder_);
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument) << loaded.status();
    return std::string(loaded.status().message());
  }

  std::string folder_;
};

void ExpectEqual(const Vocabulary& a, const Vocabulary& b) {
  EXPECT_EQ(a.pieces, b.pieces);
  EXPECT_EQ(a.kinds, b.kinds);
  EXPECT_EQ(a.merges, b.merges);
  EXPECT_EQ(a.pre_tokenizer, b.pre_tokenizer);
  EXPECT_EQ(a.bos_id, b.bos_id);
  EXPECT_EQ(a.eos_ids, b.eos_ids);
  EXPECT_EQ(a.chat_template, b.chat_template);
  EXPECT_EQ(a.Digest(), b.Digest());
}

TEST_F(VocabularyTest, GgufFileGivesWhatWasWritten) {
  WriteGguf(Example());
  const auto loaded = Vocabulary::Load(Path("m.gguf"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ExpectEqual(*loaded, Example());
}

TEST_F(VocabularyTest, FolderOfTheConverterHasTheDigestOfTheGgufFile) {
  WriteFolder(Example());
  const auto loaded = Vocabulary::Load(folder_);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ExpectEqual(*loaded, Example());
}

TEST_F(VocabularyTest, FolderWithOneGgufFileWillDoButNotWithTwo) {
  WriteGguf(Example());
  EXPECT_TRUE(Vocabulary::Load(folder_).ok());
  WriteGguf(Example(), "n.gguf");
  EXPECT_THAT(LoadError(), HasSubstr("exactly one"));
}

TEST_F(VocabularyTest, MergesMayBePairs) {
  WriteFolderWith(R"("ab c")", R"(["ab", "c"])");
  const auto loaded = Vocabulary::Load(folder_);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->merges, Example().merges);
}

TEST_F(VocabularyTest, EosMayBeAListAndComesFromGenerationConfigFirst) {
  WriteFolder(Example());
  Write("config.json", R"({"eos_token_id": 1})");
  Write("generation_config.json", R"({"eos_token_id": [258, 3]})");
  EXPECT_THAT(Vocabulary::Load(folder_)->eos_ids, ElementsAre(258, 3));
  std::filesystem::remove(Path("generation_config.json"));
  EXPECT_THAT(Vocabulary::Load(folder_)->eos_ids, ElementsAre(1));
  std::filesystem::remove(Path("config.json"));
  EXPECT_THAT(Vocabulary::Load(folder_)->eos_ids, ElementsAre(258));  // the name in the config
}

TEST_F(VocabularyTest, EosOutsideTheVocabularyIsNamed) {
  WriteFolder(Example());
  Write("generation_config.json", R"({"eos_token_id": [2, 260]})");
  EXPECT_THAT(LoadError(), AllOf(HasSubstr("generation_config.json"), HasSubstr("eos_token_id")));
}

TEST_F(VocabularyTest, DigestSeesEveryPartThatChangesIds) {
  const std::string digest = Example().Digest();
  Vocabulary other = Example();
  std::swap(other.pieces[0], other.pieces[1]);
  EXPECT_NE(other.Digest(), digest);
  other = Example();
  other.kinds[258] = TokenKind::kUserDefined;
  EXPECT_NE(other.Digest(), digest);
  other = Example();
  std::swap(other.merges[0], other.merges[1]);
  EXPECT_NE(other.Digest(), digest);
  other = Example();
  other.pre_tokenizer = "gpt-2";
  EXPECT_NE(other.Digest(), digest);
  other = Example();
  other.source = "elsewhere";
  other.chat_template.clear();
  EXPECT_EQ(other.Digest(), digest);
}

TEST_F(VocabularyTest, WhatIsNotSupportedIsRefusedByName) {
  const std::vector<std::vector<std::string>> cases = {
      {R"("type": "BPE")", R"("type": "Unigram")", "model.type"},
      {R"("individual_digits":true)", R"("individual_digits":false)", "pre_tokenizer"},
      {R"("normalizer": null)", R"("normalizer": {"type":"NFC"})", "normalizer"},
      {R"("byte_fallback": false)", R"("byte_fallback": true)", "byte fallback"},
      {R"("lstrip":false)", R"("lstrip":true)", "added_tokens[0].lstrip"},
      {R"("a b")", R"("a zz")", "merges[0]"},
      {R"("a b")", R"("ab")", "merges[0]"},
      {R"("ab c")", R"("a b")", "merges[1]"},
      {R"("abc": 257)", R"("abc": 300)", "id 257"},
      {R"("abc": 257)", R"("abc": 256)", "id 256"},
      {R"("abc": 257)", R"("abc": 99999999)", "99999999"},
      {R"("abc": 257)", R"("abc": -1)", "-1"},
  };
  for (const auto& c : cases) {
    WriteFolderWith(c[0], c[1]);
    EXPECT_THAT(LoadError(), AllOf(HasSubstr("tokenizer.json"), HasSubstr(c[2])));
  }
}

TEST_F(VocabularyTest, GgufOfAnotherModelOrRuleIsRefusedByName) {
  Vocabulary vocabulary = Example();
  vocabulary.model = "t5";
  WriteGguf(vocabulary);
  EXPECT_THAT(LoadError(), AllOf(HasSubstr("m.gguf"), HasSubstr("tokenizer.ggml.model")));
  vocabulary = Example();
  vocabulary.pre_tokenizer = "qwen99";
  WriteGguf(vocabulary);
  EXPECT_THAT(LoadError(), AllOf(HasSubstr("qwen99"), HasSubstr("smollm")));
  vocabulary = Example();
  vocabulary.kinds.pop_back();
  WriteGguf(vocabulary);
  EXPECT_THAT(LoadError(), HasSubstr("token types"));
}

TEST(ByteAlphabetTest, SpellsEveryByteAndReadsItBack) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string_view symbol = ByteSymbol(static_cast<uint8_t>(byte));
    EXPECT_EQ(DecodeByteSymbols(symbol), std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(ByteSymbol(' '), "\xc4\xa0");  // GPT-2's well-known U+0120
  EXPECT_EQ(DecodeByteSymbols("\xe2\x82\xac"), std::nullopt);
  EXPECT_EQ(DecodeByteSymbols("a b"), std::nullopt);
}

}  // namespace
}  // namespace krait
