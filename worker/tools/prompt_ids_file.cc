#include "worker/tools/prompt_ids_file.h"

#include <algorithm>
#include <cstdint>

#include "common/field_error.h"
#include "common/json.h"
#include "common/status_macros.h"

namespace krait {
namespace {

absl::StatusOr<std::vector<TokenId>> IdsOf(const JsonValue& value) {
  std::vector<TokenId> ids;
  for (const JsonValue& id : value.as_array()) {
    if (!id.is_integer()) return FieldError("--prompt-ids-file", "holds something else than ids");
    ids.push_back(static_cast<TokenId>(std::clamp<int64_t>(id.as_int(), -1, INT32_MAX)));
  }
  return ids;
}

}  // namespace

absl::StatusOr<std::vector<std::vector<TokenId>>> ReadPromptIdsFile(const std::string& path) {
  ASSIGN_OR_RETURN(const JsonValue document, ReadJsonFile(path));
  if (!document.is_array() || document.as_array().empty()) {
    return FieldError("--prompt-ids-file", "must be a list of ids or of lists of ids");
  }
  std::vector<std::vector<TokenId>> prompts;
  if (!document.as_array()[0].is_array()) {
    ASSIGN_OR_RETURN(prompts.emplace_back(), IdsOf(document));
    return prompts;
  }
  for (const JsonValue& list : document.as_array()) {
    if (!list.is_array()) return FieldError("--prompt-ids-file", "mixes ids and lists of ids");
    ASSIGN_OR_RETURN(prompts.emplace_back(), IdsOf(list));
  }
  return prompts;
}

}  // namespace krait
