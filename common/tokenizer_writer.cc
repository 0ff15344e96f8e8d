#include "common/tokenizer_writer.h"

#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/json.h"
#include "common/space_prefix.h"
#include "common/splitting_rule.h"
#include "common/status_macros.h"

namespace krait {
namespace {

constexpr std::string_view kByteLevel =
    R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true})";
constexpr std::string_view kByteLevelNoRegex =
    R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false})";

// Llama 3's published rule (tokenizer.json of the model).
constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The parts of a tokenizer.json in which the two models differ.
struct Recipe {
  std::string normalizer, pre_tokenizer, decoder;
  bool byte_fallback;
  bool ignore_merges;
};

std::string Sequence(std::string_view first, std::string_view second) {
  return absl::StrCat(R"({"type":"Sequence","pretokenizers":[)", std::string(first), ",",
                      std::string(second), "]}");
}

absl::StatusOr<std::string> PreTokenizerJson(std::string_view name) {
  if (name == "smollm") {
    return Sequence(R"({"type":"Digits","individual_digits":true})", kByteLevel);
  }
  if (name == "gpt-2") return std::string(kByteLevel);
  if (name == "llama-bpe") {
    return Sequence(
        absl::StrCat(R"({"type":"Split","pattern":{"Regex":)", QuoteJson(kLlama3Pattern),
                     R"(},"behavior":"Isolated","invert":false})"),
        kByteLevelNoRegex);
  }
  return absl::UnimplementedError(
      absl::StrCat("splitting rule ", QuoteJson(name), " cannot be written to tokenizer.json"));
}

// tokenizer.json gives every merge a rank of its own.
absl::Status CheckRanks(const Vocabulary& vocabulary) {
  const auto made = [&](size_t i) {
    std::string piece = vocabulary.merges[i];
    piece.erase(piece.find(' '), 1);
    return piece;
  };
  for (size_t i = 1; i < vocabulary.merge_ranks.size(); ++i) {
    if (vocabulary.merge_ranks[i] != vocabulary.merge_ranks[i - 1] || made(i) == made(i - 1)) {
      continue;
    }
    return absl::UnimplementedError(
        absl::StrCat("pieces ", QuoteJson(made(i - 1)), " and ", QuoteJson(made(i)),
                     " have one score, which tokenizer.json cannot express"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Recipe> RecipeFor(const Vocabulary& vocabulary) {
  if (vocabulary.model == "llama") {
    ASSIGN_OR_RETURN(const SpacePrefix prefix, FindSpacePrefix(vocabulary.pre_tokenizer));
    RETURN_IF_ERROR(CheckRanks(vocabulary));
    const SpacePrefixJson json = ToJson(prefix);
    return Recipe{std::string(json.normalizer), std::string(json.pre_tokenizer),
                  std::string(json.decoder), /*byte_fallback=*/true, /*ignore_merges=*/false};
  }
  if (vocabulary.model != "gpt2") {
    return absl::UnimplementedError(absl::StrCat("tokenizer model ", QuoteJson(vocabulary.model),
                                                 " cannot be written; \"gpt2\" and \"llama\" can"));
  }
  ASSIGN_OR_RETURN(const SplittingRule rule, FindSplittingRule(vocabulary.pre_tokenizer));
  ASSIGN_OR_RETURN(std::string pre_tokenizer, PreTokenizerJson(rule.name));
  return Recipe{"null", std::move(pre_tokenizer), std::string(kByteLevel), /*byte_fallback=*/false,
                rule.whole_words_first};
}

std::string AddedTokenJson(TokenId id, const std::string& text, bool special) {
  return absl::StrCat(R"(    {"id":)", id, R"(,"content":)", QuoteJson(text),
                      R"(,"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,)",
                      R"("special":)", special ? "true" : "false", "}");
}

std::string AddedTokensJson(const Vocabulary& vocabulary) {
  std::vector<std::string> rows;
  for (size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    const TokenId id = static_cast<TokenId>(i);
    switch (vocabulary.kinds[i]) {
      case TokenKind::kNormal:
      case TokenKind::kByte:    // known by its spelling
      case TokenKind::kUnused:  // never produced, so nothing tells it from a piece without merges
        break;
      case TokenKind::kControl:
      case TokenKind::kUserDefined:
        rows.push_back(
            AddedTokenJson(id, vocabulary.pieces[i], vocabulary.kinds[i] == TokenKind::kControl));
        break;
    }
  }
  return absl::StrJoin(rows, ",\n");
}

std::string VocabJson(const Vocabulary& vocabulary) {
  std::string text;
  for (size_t i = 0; i < vocabulary.pieces.size(); ++i) {
    absl::StrAppend(&text, i == 0 ? "" : ",\n", "      ", QuoteJson(vocabulary.pieces[i]), ": ", i);
  }
  return text;
}

std::string MergesJson(const Vocabulary& vocabulary) {
  std::string text;
  for (size_t i = 0; i < vocabulary.merges.size(); ++i) {
    absl::StrAppend(&text, i == 0 ? "" : ",\n", "      ", QuoteJson(vocabulary.merges[i]));
  }
  return text;
}

std::string TokenName(const Vocabulary& vocabulary, TokenId id) {
  return QuoteJson(vocabulary.pieces[static_cast<size_t>(id)]);
}

}  // namespace

absl::StatusOr<std::string> TokenizerJson(const Vocabulary& vocabulary) {
  ASSIGN_OR_RETURN(const Recipe recipe, RecipeFor(vocabulary));
  return absl::StrCat("{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n",
                      "  \"added_tokens\": [\n", AddedTokensJson(vocabulary),
                      "\n  ],\n  \"normalizer\": ", recipe.normalizer, ",\n",
                      "  \"pre_tokenizer\": ", recipe.pre_tokenizer,
                      ",\n  \"post_processor\": null,\n  \"decoder\": ", recipe.decoder,
                      ",\n  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n",
                      "    \"unk_token\": null,\n    \"continuing_subword_prefix\": null,\n",
                      "    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n    "
                      "\"byte_fallback\": ",
                      recipe.byte_fallback ? "true" : "false", ",\n",
                      "    \"ignore_merges\": ", recipe.ignore_merges ? "true" : "false", ",\n",
                      "    \"vocab\": {\n", VocabJson(vocabulary), "\n    },\n    \"merges\": [\n",
                      MergesJson(vocabulary), "\n    ]\n  }\n}\n");
}

std::string TokenizerConfigJson(const Vocabulary& vocabulary, int64_t max_context_tokens) {
  std::vector<std::string> fields;
  fields.push_back(absl::StrCat("\"add_bos_token\": ", vocabulary.add_bos ? "true" : "false"));
  fields.push_back("\"add_prefix_space\": false");
  if (vocabulary.bos_id) {
    fields.push_back(absl::StrCat("\"bos_token\": ", TokenName(vocabulary, *vocabulary.bos_id)));
  }
  if (!vocabulary.eos_ids.empty()) {
    fields.push_back(
        absl::StrCat("\"eos_token\": ", TokenName(vocabulary, vocabulary.eos_ids.front())));
  }
  if (vocabulary.pad_id) {
    fields.push_back(absl::StrCat("\"pad_token\": ", TokenName(vocabulary, *vocabulary.pad_id)));
  }
  if (!vocabulary.chat_template.empty()) {
    fields.push_back(absl::StrCat("\"chat_template\": ", QuoteJson(vocabulary.chat_template)));
  }
  fields.push_back("\"clean_up_tokenization_spaces\": false");
  fields.push_back(absl::StrCat("\"model_max_length\": ", max_context_tokens));
  fields.push_back("\"tokenizer_class\": \"PreTrainedTokenizerFast\"");
  return absl::StrCat("{\n  ", absl::StrJoin(fields, ",\n  "), "\n}\n");
}

std::string GenerationConfigJson(const Vocabulary& vocabulary) {
  std::vector<std::string> fields;
  if (vocabulary.bos_id) fields.push_back(absl::StrCat("\"bos_token_id\": ", *vocabulary.bos_id));
  if (vocabulary.eos_ids.size() == 1) {
    fields.push_back(absl::StrCat("\"eos_token_id\": ", vocabulary.eos_ids.front()));
  } else if (!vocabulary.eos_ids.empty()) {
    fields.push_back(
        absl::StrCat("\"eos_token_id\": [", absl::StrJoin(vocabulary.eos_ids, ", "), "]"));
  }
  if (vocabulary.pad_id) fields.push_back(absl::StrCat("\"pad_token_id\": ", *vocabulary.pad_id));
  return absl::StrCat("{\n  ", absl::StrJoin(fields, ",\n  "), "\n}\n");
}

}  // namespace krait
