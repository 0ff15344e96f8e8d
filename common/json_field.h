#pragma once

// For readers of JSON files that somebody else wrote.

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/json.h"
#include "common/strings.h"

namespace krait {

// INVALID_ARGUMENT "file: field: what".
inline absl::Status FileFieldError(const std::string& file, std::string_view field,
                                   std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(file, ": ", ToAbsl(field), ": ", ToAbsl(what)));
}

// Null if `object` is none, has no such key, or null there.
inline const JsonValue* FindPresent(const JsonValue& object, std::string_view key) {
  const JsonValue* value = object.is_object() ? object.Find(key) : nullptr;
  return value == nullptr || value->is_null() ? nullptr : value;
}

inline bool IsTrue(const JsonValue& object, std::string_view key) {
  const JsonValue* value = FindPresent(object, key);
  return value != nullptr && value->is_bool() && value->as_bool();
}

}  // namespace krait
