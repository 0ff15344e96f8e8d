#include "coordinator/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "coordinator/tokenizer/word_merger.h"
#include "coordinator/tokenizer/word_splitter.h"
#include "tests/coordinator/tokenizer/small_vocabulary.h"

namespace krait {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Pieces(const Tokenizer& tokenizer, std::string_view text,
                                bool allow_special = false) {
  std::vector<std::string> pieces;
  const auto ids = tokenizer.Encode(text, allow_special);
  EXPECT_TRUE(ids.ok()) << ids.status();
  for (TokenId id : *ids) pieces.emplace_back(tokenizer.PieceBytes(id));
  return pieces;
}

std::unique_ptr<const Tokenizer> Make(const Vocabulary& vocabulary) {
  auto tokenizer = CreateTokenizer(vocabulary);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

std::vector<std::string> Words(std::string_view rule, std::string_view text) {
  std::vector<std::string> words;
  const auto splitter = WordSplitter::Create(rule);
  EXPECT_TRUE(splitter.ok()) << splitter.status();
  EXPECT_TRUE(splitter->Split(text, [&](std::string_view w) { words.emplace_back(w); }).ok());
  return words;
}

TEST(TokenizerTest, LowestRankMergesFirstAndTheLeftmostOfEquals) {
  const auto tokenizer = Make(testing::SmallVocabulary({"b c", "a b", "a a", "aa a"}));
  EXPECT_THAT(Pieces(*tokenizer, "abc"), ElementsAre("a", "bc"));
  EXPECT_THAT(Pieces(*tokenizer, "aaaaa"), ElementsAre("aa", "aaa"));
}

// The definition, one merge a pass over the word.
std::vector<TokenId> MergeNaively(const Vocabulary& vocabulary, std::vector<std::string> word) {
  const auto rank_of = [&](const std::string& a, const std::string& b) {
    for (size_t i = 0; i < vocabulary.merges.size(); ++i) {
      if (vocabulary.merges[i] == a + " " + b) return i;
    }
    return vocabulary.merges.size();
  };
  for (;;) {
    size_t best = vocabulary.merges.size(), at = 0;
    for (size_t i = 0; i + 1 < word.size(); ++i) {
      const size_t rank = rank_of(word[i], word[i + 1]);
      if (rank < best) best = rank, at = i;
    }
    if (best == vocabulary.merges.size()) break;
    word[at] += word[at + 1];
    word.erase(word.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  std::vector<TokenId> ids;
  for (const std::string& piece : word) {
    for (size_t i = 0; i < vocabulary.pieces.size(); ++i) {
      if (vocabulary.pieces[i] == piece) ids.push_back(static_cast<TokenId>(i));
    }
  }
  return ids;
}

// Ranks are shuffled, so later merges may outrank the one that made their parts.
std::vector<std::string> RandomMerges(std::mt19937& random, int num_tries) {
  std::vector<std::string> pieces = {"a", "b", "c"}, merges;
  for (int i = 0; i < num_tries; ++i) {
    const std::string left = pieces[random() % pieces.size()];
    const std::string right = pieces[random() % pieces.size()];
    const std::string made = left + right;
    if (std::find(pieces.begin(), pieces.end(), made) != pieces.end()) continue;
    pieces.push_back(made);
    merges.push_back(left + " " + right);
  }
  std::shuffle(merges.begin(), merges.end(), random);
  return merges;
}

TEST(TokenizerTest, MergingEqualsTheNaiveDefinitionOnRandomVocabularies) {
  std::mt19937 random(7);
  for (int round = 0; round < 60; ++round) {
    const Vocabulary vocabulary = testing::SmallVocabulary(RandomMerges(random, 14));
    const auto tokenizer = Make(vocabulary);
    for (int i = 0; i < 20; ++i) {
      std::string text;
      std::vector<std::string> word;
      for (size_t n = 1 + random() % 60; n > 0; --n) {
        word.emplace_back(1, "abc"[random() % (i % 3 + 1)]);
        text += word.back();
      }
      ASSERT_EQ(*tokenizer->Encode(text, false), MergeNaively(vocabulary, word)) << text;
    }
  }
}

// Small windows of long words, so that borders fall everywhere and some windows never meet.
TEST(TokenizerTest, MergingByWindowsEqualsMergingWhole) {
  std::mt19937 random(13);
  int num_long = 0;
  for (int round = 0; round < 400; ++round) {
    const Vocabulary vocabulary = testing::SmallVocabulary(RandomMerges(random, 20));
    const WordMerger merger(vocabulary, 2 + random() % 40);
    WordMerger::Scratch scratch;
    for (int i = 0; i < 10; ++i) {
      std::vector<TokenId> symbols(random() % 400), windows, whole;
      const unsigned num_letters = 1 + random() % 3;
      for (TokenId& symbol : symbols) symbol = static_cast<TokenId>('a' + random() % num_letters);
      merger.Merge(symbols, scratch, windows);
      merger.MergeWhole(symbols, scratch, whole);
      ASSERT_EQ(windows, whole) << "round " << round;
      num_long += symbols.size() > 40;
    }
  }
  EXPECT_GT(num_long, 1000);
}

TEST(TokenizerTest, LongRunsAreMergedInWindowsOfBoundedMemory) {
  const WordMerger merger(testing::SmallVocabulary({"a a", "aa aa"}));
  WordMerger::Scratch scratch;
  std::vector<TokenId> ids;
  merger.Merge(std::vector<TokenId>(1'000'001, 'a'), scratch, ids);
  EXPECT_EQ(ids.size(), 250'001u);
  EXPECT_LE(scratch.cells.capacity(), 4 * WordMerger::kDefaultWindow);
}

TEST(TokenizerTest, ByteTokenizerIsBpeWithoutMerges) {
  const auto bytes = Make(testing::SmallVocabulary({}));
  // One merge of bytes that no valid text has: the other implementation, the same result.
  const auto bpe = Make(testing::SmallVocabulary({"\xc3\xbe \xc3\xbf"}));
  for (const std::string text : {"", "Hello, w\xc3\xb6rld 12", "\t\r\n  x", "\xf0\x9f\x98\x80"}) {
    EXPECT_EQ(*bytes->Encode(text, true), *bpe->Encode(text, true));
    EXPECT_EQ(*bytes->Decode(*bytes->Encode(text, true), true), text);
  }
}

TEST(TokenizerTest, ControlTokensComeFromTextOnlyWhenAllowed) {
  const auto tokenizer = Make(testing::SmallVocabulary({"a b"}));
  EXPECT_THAT(Pieces(*tokenizer, "a<|im_end|>b", true), ElementsAre("a", "<|im_end|>", "b"));
  EXPECT_EQ(Pieces(*tokenizer, "a<|im_end|>b", false).size(), 12u);
}

TEST(TokenizerTest, UserDefinedTokensAlwaysMatchTheLongestAtTheLeftmostPlace) {
  const auto tokenizer = Make(testing::SmallVocabulary({"a b"}, {"<c>"}, {"<x>", "<x><y>", "y><"}));
  EXPECT_THAT(Pieces(*tokenizer, "<x><y>ab<x><"), ElementsAre("<x><y>", "ab", "<x>", "<"));
}

TEST(TokenizerTest, BytesWithoutAPieceVanish) {
  Vocabulary vocabulary = testing::SmallVocabulary({"a b"});
  vocabulary.pieces[4] = "zz";  // what was byte 4
  const auto tokenizer = Make(vocabulary);
  EXPECT_THAT(Pieces(*tokenizer, "a\x04"), ElementsAre("a"));
  EXPECT_THAT(Pieces(*tokenizer, "a\x04!"), ElementsAre("a", "!"));
}

TEST(TokenizerTest, InvalidUtf8IsRefusedWithItsOffset) {
  const auto tokenizer = Make(testing::SmallVocabulary({"a b"}));
  for (const std::string tail : {"\xff", "\xc3", "\xed\xa0\x80", "\xc0\xaf", "\xf4\x90\x80\x80"}) {
    const absl::Status status = tokenizer->Encode("abc" + tail, false).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("byte 3"));
  }
}

TEST(TokenizerTest, DecodingAnIdOutsideTheVocabularyIsAnError) {
  const auto tokenizer = Make(testing::SmallVocabulary({"a b"}));
  for (TokenId id : {-1, tokenizer->vocab_size()}) {
    const absl::Status status = tokenizer->Decode({65, id}, true).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
    EXPECT_THAT(std::string(status.message()), HasSubstr("token_ids[1]"));
  }
}

TEST(TokenizerTest, ManyThreadsGetTheSameIds) {
  const auto tokenizer = Make(testing::SmallVocabulary({"a b", "ab ab"}));
  std::string text;
  for (int i = 0; i < 500; ++i) text += "ababab 12 ";
  const std::vector<TokenId> expected = *tokenizer->Encode(text, false);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 5; ++n) EXPECT_EQ(*tokenizer->Encode(text, false), expected);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(WordSplitterTest, SmolLmTakesEveryDigitAlone) {
  EXPECT_THAT(Words("smollm", "a 12  3b"), ElementsAre("a", " ", "1", "2", "  ", "3", "b"));
}

TEST(WordSplitterTest, Gpt2LeavesTheLastSpaceToTheWord) {
  EXPECT_THAT(Words("gpt-2", "I've  got 12 \n\n!?"),
              ElementsAre("I", "'ve", " ", " got", " 12", " \n", "\n", "!?"));
}

TEST(WordSplitterTest, Llama3TakesDigitsByThrees) {
  EXPECT_THAT(Words("llama-bpe", "IT'S 12345\n\n x"),
              ElementsAre("IT", "'S", " ", "123", "45", "\n\n", " x"));
}

TEST(WordSplitterTest, ClassesAreThoseOfTheReferenceNotOfOldTables) {
  // U+1C8A, a letter since Unicode 16; U+180E, no space since 6.3.
  EXPECT_THAT(Words("gpt-2", "a\xe1\xb2\x8a"), ElementsAre("a\xe1\xb2\x8a"));
  EXPECT_THAT(Words("gpt-2", "!\xe1\xa0\x8e"), ElementsAre("!\xe1\xa0\x8e"));
}

TEST(WordSplitterTest, UnknownRuleIsRefused) {
  const absl::Status status = WordSplitter::Create("qwen99").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("smollm"));
}

}  // namespace
}  // namespace krait
