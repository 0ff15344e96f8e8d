#include "worker/models/hugging_face_source.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace krait {
namespace {

std::string Shown(const JsonValue& value) {
  if (value.is_string()) return QuoteJson(value.as_string());
  if (value.is_bool()) return value.as_bool() ? "true" : "false";
  if (value.is_number()) return absl::StrCat(value.as_double());
  if (value.is_object()) {
    for (const char* key : {"rope_type", "type", "quant_method"}) {
      const JsonValue* kind = value.Find(key);
      if (kind != nullptr && kind->is_string()) {
        return absl::StrCat("{", QuoteJson(key), ": ", QuoteJson(kind->as_string()), ", ...}");
      }
    }
  }
  return value.is_object() ? "an object" : "a list";
}

}  // namespace

absl::StatusOr<HuggingFaceSource> HuggingFaceSource::Open(const std::string& path) {
  HuggingFaceSource source;
  source.file_ = path;
  ASSIGN_OR_RETURN(source.root_, ReadJsonFile(path));
  if (!source.root_.is_object()) return BadField(path, "document", "no JSON object");
  return source;
}

bool HuggingFaceSource::Has(const char* field) const {
  const JsonValue* value = root_.Find(field);
  return value != nullptr && !value->is_null();
}

template <typename T>
absl::StatusOr<T> HuggingFaceSource::AtFile(absl::StatusOr<T> value) const {
  if (value.ok()) return value;
  return absl::InvalidArgumentError(
      absl::StrCat(file_, ": ", prefix_, std::string(value.status().message())));
}

absl::StatusOr<int64_t> HuggingFaceSource::Int(const char* field, IntRange range) const {
  ASSIGN_OR_RETURN(const int64_t value, AtFile(root_.GetInt(field)));
  RETURN_IF_ERROR(CheckRange(file_, prefix_ + field, value, range));
  return value;
}

absl::StatusOr<int64_t> HuggingFaceSource::IntOr(const char* field, IntRange range,
                                                 int64_t otherwise) const {
  if (!Has(field)) return otherwise;
  return Int(field, range);
}

absl::StatusOr<double> HuggingFaceSource::Double(const char* field) const {
  return AtFile(root_.GetDouble(field));
}

absl::StatusOr<float> HuggingFaceSource::Float(const char* field, FloatRange range) const {
  ASSIGN_OR_RETURN(const double value, Double(field));
  RETURN_IF_ERROR(CheckRange(file_, prefix_ + field, value, range));
  return static_cast<float>(value);
}

absl::StatusOr<bool> HuggingFaceSource::BoolOr(const char* field, bool otherwise) const {
  if (!Has(field)) return otherwise;
  return AtFile(root_.GetBool(field));
}

absl::StatusOr<std::string> HuggingFaceSource::String(const char* field) const {
  return AtFile(root_.GetString(field));
}

absl::StatusOr<HuggingFaceSource> HuggingFaceSource::Object(const char* field) const {
  const JsonValue* value = root_.Find(field);
  if (value == nullptr || !value->is_object()) return Bad(field, "an object wanted");
  HuggingFaceSource source;
  source.file_ = file_;
  source.prefix_ = absl::StrCat(prefix_, field, ".");
  source.root_ = *value;
  return source;
}

absl::Status HuggingFaceSource::Bad(const char* field, const std::string& reason) const {
  return BadField(file_, prefix_ + field, reason);
}

absl::Status HuggingFaceSource::Unsupported(const char* field, const std::string& what_is) const {
  return Bad(field, absl::StrCat(Shown(*root_.Find(field)), " is not supported",
                                 what_is.empty() ? "" : "; ", what_is));
}

}  // namespace krait
