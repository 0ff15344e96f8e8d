#include "coordinator/tools/json_writer.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/json.h"
#include "common/logging.h"
#include "common/strings.h"

namespace krait {

JsonWriter& JsonWriter::Open(char open, char close) {
  Separate();
  text_.push_back(open);
  closers_.push_back(close);
  needs_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::End() {
  CHECK(!closers_.empty());
  text_.push_back(closers_.back());
  closers_.pop_back();
  needs_comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::Key(std::string_view name) {
  Separate();
  absl::StrAppend(&text_, QuoteJson(name), ": ");
  needs_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::String(std::string_view value) { return Value(QuoteJson(value)); }

JsonWriter& JsonWriter::Int(int64_t value) { return Value(absl::StrCat(value)); }

JsonWriter& JsonWriter::Double(double value) {
  return Value(std::isfinite(value) ? absl::StrFormat("%.6g", value) : "null");
}

JsonWriter& JsonWriter::Bool(bool value) { return Value(value ? "true" : "false"); }

JsonWriter& JsonWriter::Value(std::string_view text) {
  Separate();
  absl::StrAppend(&text_, ToAbsl(text));
  needs_comma_ = true;
  return *this;
}

void JsonWriter::Separate() {
  if (needs_comma_) absl::StrAppend(&text_, ", ");
}

}  // namespace krait
