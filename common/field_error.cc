#include "common/field_error.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace krait {
namespace {

constexpr char kFieldPayload[] = "krait/field";

}  // namespace

absl::Status FieldError(std::string_view field, std::string_view description) {
  absl::Status status =
      absl::InvalidArgumentError(absl::StrCat(ToAbsl(field), ": ", ToAbsl(description)));
  SetErrorField(field, status);
  return status;
}

void SetErrorField(std::string_view field, absl::Status& status) {
  status.SetPayload(kFieldPayload, absl::Cord(ToAbsl(field)));
}

std::string ErrorField(const absl::Status& status) {
  const auto field = status.GetPayload(kFieldPayload);
  return field.has_value() ? std::string(*field) : std::string();
}

}  // namespace krait
