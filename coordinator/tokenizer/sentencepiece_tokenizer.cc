#include "coordinator/tokenizer/sentencepiece_tokenizer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/json.h"
#include "common/status_macros.h"
#include "coordinator/tokenizer/utf8.h"

namespace krait {
namespace {

// At most four bytes, in one number.
uint32_t KeyOf(std::string_view character) {
  uint32_t key = 0;
  for (char byte : character) key = key << 8 | static_cast<uint8_t>(byte);
  return key;
}

// Calls `on_character` for each character of well-formed `text` while it returns true.
template <typename Function>
bool ForEachCharacter(std::string_view text, Function on_character) {
  while (!text.empty()) {
    const size_t length = CharacterLength(text);
    if (!on_character(text.substr(0, length))) return false;
    text.remove_prefix(length);
  }
  return true;
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(const Vocabulary& vocabulary, PieceTable pieces,
                                               SpacePrefix prefix, Characters characters)
    : pieces_(std::move(pieces)),
      prefix_(prefix),
      characters_(std::move(characters)),
      merger_(vocabulary) {}

absl::StatusOr<std::unique_ptr<const Tokenizer>> SentencePieceTokenizer::Create(
    const Vocabulary& vocabulary, PieceTable pieces) {
  ASSIGN_OR_RETURN(const SpacePrefix prefix, FindSpacePrefix(vocabulary.pre_tokenizer));
  Characters characters;
  for (size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    const std::string& piece = vocabulary.pieces[i];
    if (vocabulary.kinds[i] == TokenKind::kNormal && CharacterLength(piece) == piece.size()) {
      characters[KeyOf(piece)] = static_cast<TokenId>(i);
    }
  }
  for (size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    const std::string& piece = vocabulary.pieces[i];
    const auto is_known = [&](std::string_view c) { return characters.contains(KeyOf(c)); };
    if (vocabulary.kinds[i] == TokenKind::kNormal && !ForEachCharacter(piece, is_known)) {
      return absl::InvalidArgumentError(
          absl::StrCat(vocabulary.source, ": tokens: id ", i, " ", QuoteJson(piece),
                       " has a character that is no piece itself, which is not supported"));
    }
  }
  return std::unique_ptr<const Tokenizer>(
      new SentencePieceTokenizer(vocabulary, std::move(pieces), prefix, std::move(characters)));
}

bool SentencePieceTokenizer::NeedsPrefix(std::string_view section, bool at_start) const {
  const bool begins_with_space = section.starts_with(' ') || section.starts_with(kSpaceSymbol);
  switch (prefix_) {
    case SpacePrefix::kNever:
      return false;
    case SpacePrefix::kAlways:
      return true;
    case SpacePrefix::kFirstSection:
      return at_start && !begins_with_space;
    case SpacePrefix::kUnlessPresent:
      return !begins_with_space;
  }
  return false;
}

void SentencePieceTokenizer::AppendCharacter(std::string_view character,
                                             std::vector<TokenId>& symbols) const {
  if (character == " ") character = kSpaceSymbol;
  if (const auto it = characters_.find(KeyOf(character)); it != characters_.end()) {
    symbols.push_back(it->second);
    return;
  }
  for (char byte : character) symbols.push_back(pieces_.OfByte(static_cast<uint8_t>(byte)));
}

absl::StatusOr<std::vector<TokenId>> SentencePieceTokenizer::EncodePart(std::string_view text,
                                                                        bool allow_special,
                                                                        bool at_start) const {
  std::vector<TokenId> ids, symbols;
  WordMerger::Scratch scratch;
  const auto encode = [&](std::string_view section, std::vector<TokenId>& out) {
    symbols.clear();
    if (NeedsPrefix(section, at_start && section.data() == text.data())) {
      AppendCharacter(kSpaceSymbol, symbols);
    }
    ForEachCharacter(section, [&](std::string_view character) {
      AppendCharacter(character, symbols);
      return true;
    });
    merger_.Merge(symbols, scratch, out);
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(pieces_.EncodeAround(text, allow_special, encode, ids));
  return ids;
}

}  // namespace krait
