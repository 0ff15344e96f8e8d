#pragma once

// SentencePiece vocabularies write a space as U+2581 and put one before a text, by one of a few
// rules. Vocabulary::pre_tokenizer holds the rule's name.

#include <string_view>

#include "absl/status/statusor.h"
#include "common/json.h"

namespace krait {

inline constexpr std::string_view kSpaceSymbol = "\xe2\x96\x81";

enum class SpacePrefix {
  kNever,
  kAlways,         // every section of text between added tokens gets one: SentencePiece itself, and
                   // "legacy" tokenizer.json files (a Prepend normalizer)
  kFirstSection,   // the section at the very start, unless it begins with a space (Metaspace
                   // "first")
  kUnlessPresent,  // every section that does not begin with a space (Metaspace "always")
};

// "none", "prepend", "metaspace-first", "metaspace-always".
std::string_view SpacePrefixName(SpacePrefix prefix);

// INVALID_ARGUMENT lists the names that are known.
absl::StatusOr<SpacePrefix> FindSpacePrefix(std::string_view name);

// The rule that normalizer, pre_tokenizer and decoder of a tokenizer.json make together.
// INVALID_ARGUMENT shows what was found, in short, if they are none of the known combinations.
absl::StatusOr<SpacePrefix> RecognizeSpacePrefix(const JsonValue& tokenizer);

// The three fields as JSON, to be written: what RecognizeSpacePrefix reads.
struct SpacePrefixJson {
  std::string_view normalizer, pre_tokenizer, decoder;
};
SpacePrefixJson ToJson(SpacePrefix prefix);

}  // namespace krait
