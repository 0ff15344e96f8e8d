#pragma once

// A strict JSON reader over a library: duplicate keys, trailing text, invalid UTF-8, too deep or
// too large documents are errors.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"

namespace krait {

struct JsonLimits {
  size_t max_bytes = 64u << 20;
  int max_depth = 32;
  size_t max_values = 20'000'000;  // objects, arrays, strings, numbers, ... in all
};

class JsonValue;
using JsonArray = std::vector<JsonValue>;
using JsonObject = std::vector<std::pair<std::string, JsonValue>>;  // in the document's order

class JsonValue {
 public:
  using Storage = std::variant<std::nullptr_t, bool, int64_t, uint64_t, double, std::string,
                               JsonArray, JsonObject>;
  JsonValue() : storage_(nullptr) {}
  explicit JsonValue(Storage storage) : storage_(std::move(storage)) {}

  bool is_null() const { return std::holds_alternative<std::nullptr_t>(storage_); }
  bool is_string() const { return std::holds_alternative<std::string>(storage_); }
  bool is_array() const { return std::holds_alternative<JsonArray>(storage_); }
  bool is_object() const { return std::holds_alternative<JsonObject>(storage_); }
  bool is_number() const { return is_integer() || std::holds_alternative<double>(storage_); }
  // uint64 is used only for integers above INT64_MAX. The literal -0 is no integer.
  bool is_integer() const {
    return std::holds_alternative<int64_t>(storage_) || std::holds_alternative<uint64_t>(storage_);
  }
  bool is_bool() const { return std::holds_alternative<bool>(storage_); }

  // CHECK-fail on another kind: test first, or use the Get functions below. as_int() of an integer
  // above INT64_MAX is INT64_MAX, so that a range check refuses it.
  bool as_bool() const { return std::get<bool>(storage_); }
  int64_t as_int() const;
  double as_double() const;
  const std::string& as_string() const { return std::get<std::string>(storage_); }
  const JsonArray& as_array() const { return std::get<JsonArray>(storage_); }
  const JsonObject& as_object() const { return std::get<JsonObject>(storage_); }

  // Null if this is no object or has no such key. O(number of keys).
  const JsonValue* Find(std::string_view key) const;

  // INVALID_ARGUMENT names the key and what was found instead.
  absl::StatusOr<int64_t> GetInt(std::string_view key) const;
  absl::StatusOr<double> GetDouble(std::string_view key) const;
  absl::StatusOr<std::string> GetString(std::string_view key) const;
  absl::StatusOr<bool> GetBool(std::string_view key) const;

 private:
  Storage storage_;
};

// Parses one document. INVALID_ARGUMENT says what is wrong and at which byte.
absl::StatusOr<JsonValue> ParseJson(std::string_view text, const JsonLimits& limits = {});

// Reads and parses a file. NOT_FOUND if it cannot be opened; errors name the path.
absl::StatusOr<JsonValue> ReadJsonFile(const std::string& path, const JsonLimits& limits = {});

// `text` as a JSON string with quotes; invalid UTF-8 becomes U+FFFD.
std::string QuoteJson(std::string_view text);

}  // namespace krait
