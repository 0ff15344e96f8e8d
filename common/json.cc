#include "common/json.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "common/input_file.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace krait {
namespace {

// Walks the text for the library's lexer and tells the builder how far it has come, so that the
// builder's own errors have a place too.
class TrackedIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  TrackedIterator(const char* at, const char** seen) : at_(at), seen_(seen) {}
  reference operator*() const { return *at_; }
  TrackedIterator& operator++() {
    *seen_ = ++at_;
    return *this;
  }
  TrackedIterator operator++(int) {
    TrackedIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const TrackedIterator& other) const { return at_ == other.at_; }
  bool operator!=(const TrackedIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** seen_;
};

std::optional<std::string> FindDuplicateKey(const JsonObject& object) {
  std::vector<std::string_view> keys;
  keys.reserve(object.size());
  for (const auto& [key, value] : object) keys.push_back(key);
  std::sort(keys.begin(), keys.end());
  const auto duplicate = std::adjacent_find(keys.begin(), keys.end());
  if (duplicate == keys.end()) return std::nullopt;
  return std::string(*duplicate);
}

// The library's SAX events become JsonValues. A callback that returns false ends the parse.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Builder(const JsonLimits& limits) : limits_(limits) {}

  bool null() override { return Add(JsonValue()); }
  bool boolean(bool value) override { return Add(JsonValue(value)); }
  bool number_integer(number_integer_t value) override {
    // The library calls this for negative literals only: a zero here was written -0.
    return Add(value == 0 ? JsonValue(-0.0) : JsonValue(int64_t{value}));
  }
  bool number_unsigned(number_unsigned_t value) override {
    const bool fits = value <= static_cast<uint64_t>(INT64_MAX);
    return Add(fits ? JsonValue(static_cast<int64_t>(value)) : JsonValue(uint64_t{value}));
  }
  bool number_float(number_float_t value, const string_t&) override {
    return Add(JsonValue(double{value}));
  }
  bool string(string_t& value) override { return Add(JsonValue(std::move(value))); }
  bool binary(binary_t&) override { return Fail("binary value"); }

  bool start_object(size_t) override { return Open(JsonObject()); }
  bool key(string_t& value) override {
    open_.back().key = std::move(value);
    return true;
  }
  bool end_object() override {
    if (auto key = FindDuplicateKey(std::get<JsonObject>(open_.back().container))) {
      return Fail(absl::StrCat("duplicate key ", QuoteJson(*key)));
    }
    return Close();
  }
  bool start_array(size_t) override { return Open(JsonArray()); }
  bool end_array() override { return Close(); }

  bool parse_error(size_t, const std::string&, const nlohmann::json::exception& error) override {
    return Fail(error.what());
  }

  const std::string& error() const { return error_; }
  JsonValue TakeRoot() { return std::move(root_); }

 private:
  struct OpenContainer {
    std::variant<JsonArray, JsonObject> container;
    std::string key;  // of the object's next value
  };

  bool Fail(std::string reason) {
    error_ = std::move(reason);
    return false;
  }

  bool Count() {
    if (++num_values_ <= limits_.max_values) return true;
    return Fail(absl::StrCat("more than ", limits_.max_values, " values"));
  }

  bool Open(std::variant<JsonArray, JsonObject> container) {
    if (!Count()) return false;
    if (static_cast<int>(open_.size()) >= limits_.max_depth) {
      return Fail(absl::StrCat("nested deeper than ", limits_.max_depth));
    }
    open_.push_back({std::move(container), ""});
    return true;
  }

  bool Close() {
    auto container = std::move(open_.back().container);
    open_.pop_back();
    Place(std::visit([](auto&& held) { return JsonValue(std::move(held)); }, std::move(container)));
    return true;
  }

  bool Add(JsonValue value) {
    if (!Count()) return false;
    Place(std::move(value));
    return true;
  }

  void Place(JsonValue value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (auto* array = std::get_if<JsonArray>(&open_.back().container)) {
      array->push_back(std::move(value));
    } else {
      std::get<JsonObject>(open_.back().container)
          .emplace_back(std::move(open_.back().key), std::move(value));
    }
  }

  const JsonLimits limits_;
  size_t num_values_ = 0;
  std::vector<OpenContainer> open_;
  JsonValue root_;
  std::string error_;
};

const char* KindName(const JsonValue* value) {
  if (value == nullptr) return "nothing";
  if (value->is_null()) return "null";
  if (value->is_bool()) return "a boolean";
  if (value->is_string()) return "a string";
  if (value->is_array()) return "an array";
  if (value->is_object()) return "an object";
  return value->is_integer() ? "an integer" : "a number";
}

absl::Status WrongKind(std::string_view key, const char* wanted, const JsonValue* found) {
  return absl::InvalidArgumentError(
      absl::StrCat(ToAbsl(key), ": ", wanted, " wanted, found ", KindName(found)));
}

}  // namespace

int64_t JsonValue::as_int() const {
  if (std::holds_alternative<uint64_t>(storage_)) return INT64_MAX;
  const auto* value = std::get_if<int64_t>(&storage_);
  CHECK(value != nullptr) << KindName(this) << " is no integer";
  return *value;
}

double JsonValue::as_double() const {
  if (const auto* value = std::get_if<int64_t>(&storage_)) return static_cast<double>(*value);
  if (const auto* value = std::get_if<uint64_t>(&storage_)) return static_cast<double>(*value);
  const auto* value = std::get_if<double>(&storage_);
  CHECK(value != nullptr) << KindName(this) << " is no number";
  return *value;
}

const JsonValue* JsonValue::Find(std::string_view key) const {
  const auto* object = std::get_if<JsonObject>(&storage_);
  if (object == nullptr) return nullptr;
  for (const auto& [name, value] : *object) {
    if (name == key) return &value;
  }
  return nullptr;
}

absl::StatusOr<int64_t> JsonValue::GetInt(std::string_view key) const {
  const JsonValue* value = Find(key);
  if (value == nullptr || !value->is_integer()) return WrongKind(key, "an integer", value);
  if (std::holds_alternative<uint64_t>(value->storage_)) {
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(key), ": ", std::get<uint64_t>(value->storage_), " is above 2^63 - 1"));
  }
  return value->as_int();
}

absl::StatusOr<double> JsonValue::GetDouble(std::string_view key) const {
  const JsonValue* value = Find(key);
  if (value == nullptr || !value->is_number()) return WrongKind(key, "a number", value);
  return value->as_double();
}

absl::StatusOr<std::string> JsonValue::GetString(std::string_view key) const {
  const JsonValue* value = Find(key);
  if (value == nullptr || !value->is_string()) return WrongKind(key, "a string", value);
  return value->as_string();
}

absl::StatusOr<bool> JsonValue::GetBool(std::string_view key) const {
  const JsonValue* value = Find(key);
  if (value == nullptr || !value->is_bool()) return WrongKind(key, "a boolean", value);
  return value->as_bool();
}

absl::StatusOr<JsonValue> ParseJson(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("JSON of ", text.size(), " bytes, the limit is ", limits.max_bytes));
  }
  Builder builder(limits);
  const char* seen = text.data();
  const TrackedIterator begin(text.data(), &seen);
  const TrackedIterator end(text.data() + text.size(), &seen);
  if (!nlohmann::json::sax_parse(begin, end, &builder)) {
    return absl::InvalidArgumentError(
        absl::StrCat("JSON, near byte ", seen - text.data(), ": ", builder.error()));
  }
  return builder.TakeRoot();
}

absl::StatusOr<JsonValue> ReadJsonFile(const std::string& path, const JsonLimits& limits) {
  ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(path, limits.max_bytes));
  absl::StatusOr<JsonValue> value = ParseJson(text, limits);
  if (value.ok()) return value;
  return absl::Status(value.status().code(), absl::StrCat(path, ": ", value.status().message()));
}

std::string QuoteJson(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', /*ensure_ascii=*/false,
                                   nlohmann::json::error_handler_t::replace);
}

}  // namespace krait
