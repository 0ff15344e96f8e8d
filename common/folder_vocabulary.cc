#include "common/folder_vocabulary.h"

#include <filesystem>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/added_tokens.h"
#include "common/input_file.h"
#include "common/json_field.h"
#include "common/sentencepiece_model.h"
#include "common/status_macros.h"
#include "common/tokenizer_json.h"

namespace krait {
namespace {

constexpr uint64_t kMaxTemplateBytes = 1u << 20;

// Absent files are normal here: an empty object stands for them.
absl::StatusOr<JsonValue> ReadOptional(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return JsonValue(JsonValue::Storage(JsonObject()));
  return ReadJsonFile(path);
}

struct SideFiles {
  std::string folder;
  JsonValue tokenizer_config;
  JsonValue generation_config;
  JsonValue config;
};

absl::StatusOr<SideFiles> ReadSideFiles(const std::string& folder) {
  SideFiles files;
  files.folder = folder;
  ASSIGN_OR_RETURN(files.tokenizer_config, ReadOptional(folder + "/tokenizer_config.json"));
  ASSIGN_OR_RETURN(files.generation_config, ReadOptional(folder + "/generation_config.json"));
  ASSIGN_OR_RETURN(files.config, ReadOptional(folder + "/config.json"));
  return files;
}

absl::StatusOr<TokenId> CheckedId(const std::string& file, const std::string& field,
                                  const JsonValue& value, size_t vocab_size) {
  if (!value.is_integer() || value.as_int() < 0 ||
      value.as_int() >= static_cast<int64_t>(vocab_size)) {
    return FileFieldError(file, field, absl::StrCat("not an id in 0..", vocab_size - 1));
  }
  return static_cast<TokenId>(value.as_int());
}

// One id or a list of ids.
absl::StatusOr<std::vector<TokenId>> ReadIds(const std::string& file, const std::string& field,
                                             const JsonValue& value, size_t vocab_size) {
  std::vector<TokenId> ids;
  if (!value.is_array()) {
    ASSIGN_OR_RETURN(const TokenId id, CheckedId(file, field, value, vocab_size));
    return std::vector<TokenId>{id};
  }
  for (const JsonValue& element : value.as_array()) {
    ASSIGN_OR_RETURN(const TokenId id, CheckedId(file, field, element, vocab_size));
    ids.push_back(id);
  }
  return ids;
}

// "bos_token": "<s>", or {"content": "<s>", ...}.
absl::StatusOr<std::vector<TokenId>> ReadNamedToken(const SideFiles& files, const std::string& key,
                                                    const Vocabulary& vocabulary) {
  const JsonValue* value = FindPresent(files.tokenizer_config, key);
  if (value != nullptr && value->is_object()) value = FindPresent(*value, "content");
  if (value == nullptr) return std::vector<TokenId>();
  if (value->is_string()) {
    for (size_t i = 0; i < vocabulary.pieces.size(); ++i) {
      if (vocabulary.pieces[i] == value->as_string()) {
        return std::vector<TokenId>{static_cast<TokenId>(i)};
      }
    }
  }
  return FileFieldError(files.folder + "/tokenizer_config.json", key, "no token of the vocabulary");
}

// What generation uses wins: generation_config.json, then config.json, then the tokenizer's name.
absl::StatusOr<std::vector<TokenId>> ReadSpecial(const SideFiles& files, const std::string& name,
                                                 const Vocabulary& vocabulary) {
  const std::string key = name + "_token_id";
  const size_t size = vocabulary.pieces.size();
  if (const JsonValue* value = FindPresent(files.generation_config, key)) {
    return ReadIds(files.folder + "/generation_config.json", key, *value, size);
  }
  if (const JsonValue* value = FindPresent(files.config, key)) {
    return ReadIds(files.folder + "/config.json", key, *value, size);
  }
  return ReadNamedToken(files, name + "_token", vocabulary);
}

absl::Status ReadSpecialIds(const SideFiles& files, Vocabulary& vocabulary) {
  ASSIGN_OR_RETURN(const std::vector<TokenId> bos, ReadSpecial(files, "bos", vocabulary));
  ASSIGN_OR_RETURN(const std::vector<TokenId> pad, ReadSpecial(files, "pad", vocabulary));
  ASSIGN_OR_RETURN(const std::vector<TokenId> eos, ReadSpecial(files, "eos", vocabulary));
  // A tokenizer.model has ids of its own.
  if (!eos.empty()) vocabulary.eos_ids = eos;
  if (!bos.empty()) vocabulary.bos_id = bos.front();
  if (!pad.empty()) vocabulary.pad_id = pad.front();
  return absl::OkStatus();
}

// Whether a post-processor puts a special token before a lone sequence, as Llama 3's does.
bool StartsWithSpecialToken(const JsonValue* processor) {
  if (processor == nullptr) return false;
  if (const JsonValue* list = FindPresent(*processor, "processors"); list && list->is_array()) {
    for (const JsonValue& step : list->as_array()) {
      if (StartsWithSpecialToken(&step)) return true;
    }
    return false;
  }
  const JsonValue* single = FindPresent(*processor, "single");
  return single != nullptr && single->is_array() && !single->as_array().empty() &&
         FindPresent(single->as_array()[0], "SpecialToken") != nullptr;
}

absl::StatusOr<bool> ReadAddBos(const SideFiles& files, bool otherwise) {
  const JsonValue* flag = FindPresent(files.tokenizer_config, "add_bos_token");
  if (flag == nullptr) return otherwise;
  if (!flag->is_bool()) {
    return FileFieldError(files.folder + "/tokenizer_config.json", "add_bos_token",
                          "not a boolean");
  }
  return flag->as_bool();
}

absl::StatusOr<Vocabulary> ReadJsonWithBos(const std::string& path) {
  ASSIGN_OR_RETURN(const JsonValue tokenizer, ReadJsonFile(path));
  ASSIGN_OR_RETURN(Vocabulary vocabulary, ReadTokenizerJson(path, tokenizer));
  vocabulary.add_bos = StartsWithSpecialToken(FindPresent(tokenizer, "post_processor"));
  return vocabulary;
}

absl::StatusOr<Vocabulary> ReadModelFile(const std::string& path, const SideFiles& files) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadWholeFile(path, kMaxSentencePieceModelBytes));
  ASSIGN_OR_RETURN(Vocabulary vocabulary, ParseSentencePieceModel(path, bytes));
  const JsonValue* legacy = FindPresent(files.tokenizer_config, "legacy");
  if (legacy != nullptr && !(legacy->is_bool() && legacy->as_bool())) {
    return FileFieldError(files.folder + "/tokenizer_config.json", "legacy",
                          "must be true without a tokenizer.json");
  }
  RETURN_IF_ERROR(ReadAddedTokens(files.folder, files.tokenizer_config, vocabulary));
  return vocabulary;
}

// A string, or a list of named templates of which "default" counts.
absl::StatusOr<std::string> ReadChatTemplate(const SideFiles& files) {
  const std::string jinja = files.folder + "/chat_template.jinja";
  std::error_code error;
  if (std::filesystem::exists(jinja, error)) return ReadWholeFile(jinja, kMaxTemplateBytes);
  const JsonValue* value = FindPresent(files.tokenizer_config, "chat_template");
  if (value == nullptr) return std::string();
  if (value->is_string()) return value->as_string();
  if (value->is_array()) {
    for (const JsonValue& entry : value->as_array()) {
      const JsonValue* name = FindPresent(entry, "name");
      const JsonValue* text = FindPresent(entry, "template");
      const bool chosen = name != nullptr && name->is_string() && name->as_string() == "default";
      if (chosen && text != nullptr && text->is_string()) return text->as_string();
    }
  }
  return FileFieldError(files.folder + "/tokenizer_config.json", "chat_template",
                        "neither a string nor a list with one named \"default\"");
}

}  // namespace

absl::StatusOr<Vocabulary> ReadFolderVocabulary(const std::string& folder) {
  ASSIGN_OR_RETURN(const SideFiles files, ReadSideFiles(folder));
  const std::string model = folder + "/tokenizer.model";
  std::error_code error;
  const bool has_json = std::filesystem::exists(folder + "/tokenizer.json", error);
  ASSIGN_OR_RETURN(Vocabulary vocabulary, !has_json && std::filesystem::exists(model, error)
                                              ? ReadModelFile(model, files)
                                              : ReadJsonWithBos(folder + "/tokenizer.json"));
  RETURN_IF_ERROR(ReadSpecialIds(files, vocabulary));
  ASSIGN_OR_RETURN(vocabulary.add_bos, ReadAddBos(files, vocabulary.add_bos));
  ASSIGN_OR_RETURN(vocabulary.chat_template, ReadChatTemplate(files));
  return vocabulary;
}

}  // namespace krait
