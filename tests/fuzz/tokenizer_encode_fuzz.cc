// Text to ids and back, with the small trained vocabularies of make_kinds_reference.py's kinds:
// merging in windows equals merging whole, and decoding gives the text back.

#include <memory>

#include "absl/strings/str_replace.h"
#include "common/logging.h"
#include "coordinator/tokenizer/incremental_detokenizer.h"
#include "coordinator/tokenizer/tokenizer.h"
#include "coordinator/tokenizer/utf8.h"
#include "coordinator/tokenizer/word_merger.h"
#include "tests/fuzz/fuzz_target.h"

namespace krait {
namespace {

Vocabulary ByteLevel(std::string rule) {
  Vocabulary vocabulary = Vocabulary::Bytes({"<x>"});
  vocabulary.pre_tokenizer = std::move(rule);
  vocabulary.merges = {"a b", "a a", "aa aa", "ab ab", "b a", "aa ab", "aaaa b", "b b", "bb a"};
  for (std::string piece : vocabulary.merges) {
    piece.erase(piece.find(' '), 1);
    vocabulary.pieces.push_back(piece);
    vocabulary.kinds.push_back(TokenKind::kNormal);
  }
  return vocabulary;
}

std::unique_ptr<const Tokenizer> Make(const char* rule) {
  auto tokenizer = CreateTokenizer(ByteLevel(rule));
  CHECK_OK(tokenizer.status());
  return *std::move(tokenizer);
}

void CheckWindows(std::string_view input) {
  static const auto* const vocabulary = new Vocabulary(ByteLevel("gpt-2"));
  static const auto* const small = new WordMerger(*vocabulary, 5);
  std::vector<TokenId> symbols, windows, whole;
  for (char byte : input) symbols.push_back('a' + (byte & 1));
  WordMerger::Scratch scratch;
  small->Merge(symbols, scratch, windows);
  small->MergeWhole(symbols, scratch, whole);
  CHECK(windows == whole);
}

void CheckRoundTrip(const Tokenizer& tokenizer, std::string_view input) {
  const auto ids = tokenizer.Encode(input, false);
  CHECK_EQ(ids.ok(), !FindInvalidUtf8(input).has_value());
  if (!ids.ok()) return;
  CHECK(*tokenizer.Decode(*ids, false) == input);
  auto detokenizer = IncrementalDetokenizer::Create(tokenizer, {});
  std::string text;
  for (TokenId id : *ids) text += *detokenizer->Push(id);
  text += detokenizer->Finish();
  CHECK(text == input);
}

}  // namespace

void FuzzOne(std::string_view input) {
  CheckWindows(input);
  for (const char* rule : {"gpt-2", "smollm", "llama-bpe"}) {
    static auto* const made =
        new std::vector<std::pair<std::string, std::unique_ptr<const Tokenizer>>>;
    auto it = std::find_if(made->begin(), made->end(), [&](auto& m) { return m.first == rule; });
    if (it == made->end()) it = made->insert(made->end(), {rule, Make(rule)});
    CheckRoundTrip(*it->second, input);
  }
}

std::vector<std::string> FuzzSeeds() {
  return {"",
          "aaaaaaaaaaaaaaaaaaaaaaab",
          "abababbbaabbaabab abba  \n\t 12345",
          "\xf0\x9f\x98\x80\xc3\xa9",
          "it's IT'S \xe2\x80\x83 x",
          "<x><|y",
          "\xff",
          std::string(600, 'a') + "b"};
}

}  // namespace krait
