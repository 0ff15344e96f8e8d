#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "worker/models/config_field.h"

namespace krait {

// One JSON object of a config.json: the document, or an object in it. Every error names the file
// and the field, with its way from the document ("rope_scaling.factor").
class HuggingFaceSource {
 public:
  // NOT_FOUND or INVALID_ARGUMENT names `path`.
  static absl::StatusOr<HuggingFaceSource> Open(const std::string& path);

  const std::string& file() const { return file_; }
  // With its way from the document.
  std::string FullName(const char* field) const { return prefix_ + field; }
  // False for a field that is absent or null, as exporters write "none".
  bool Has(const char* field) const;
  const JsonValue* Find(const char* field) const { return root_.Find(field); }
  const JsonObject& fields() const { return root_.as_object(); }

  absl::StatusOr<int64_t> Int(const char* field, IntRange range) const;
  absl::StatusOr<int64_t> IntOr(const char* field, IntRange range, int64_t otherwise) const;
  absl::StatusOr<double> Double(const char* field) const;
  absl::StatusOr<float> Float(const char* field, FloatRange range) const;
  absl::StatusOr<bool> BoolOr(const char* field, bool otherwise) const;
  absl::StatusOr<std::string> String(const char* field) const;
  absl::StatusOr<HuggingFaceSource> Object(const char* field) const;

  // Errors about `field`: any; and one that shows the value this build does not run.
  absl::Status Bad(const char* field, const std::string& reason) const;
  absl::Status Unsupported(const char* field, const std::string& what_is = "") const;

 private:
  template <typename T>
  absl::StatusOr<T> AtFile(absl::StatusOr<T> value) const;

  std::string file_;
  std::string prefix_;  // of field names: "", "rope_scaling."
  JsonValue root_;
};

}  // namespace krait
