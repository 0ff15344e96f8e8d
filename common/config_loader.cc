#include "common/config_loader.h"

#include <google/protobuf/util/json_util.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/field_error.h"
#include "common/input_file.h"
#include "common/json.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace krait {
namespace {

using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr size_t kMaxConfigBytes = 1 << 20;

// Where one value goes: a field of `message`, set or appended.
struct Slot {
  Message& message;
  const FieldDescriptor& field;
};

template <typename T>
void Store(const Slot& slot,
           void (google::protobuf::Reflection::*set)(Message*, const FieldDescriptor*, T) const,
           void (google::protobuf::Reflection::*add)(Message*, const FieldDescriptor*, T) const,
           T value) {
  const auto store = slot.field.is_repeated() ? add : set;
  (slot.message.GetReflection()->*store)(&slot.message, &slot.field, std::move(value));
}

absl::Status Expected(const Slot& slot, std::string_view value, const std::string& what) {
  return FieldError(slot.field.name(),
                    absl::StrCat("expected ", what, ", got \"", ToAbsl(value), "\""));
}

std::string EnumNames(const FieldDescriptor& field) {
  std::vector<std::string> names;
  for (int i = 0; i < field.enum_type()->value_count(); ++i) {
    names.push_back(field.enum_type()->value(i)->name());
  }
  return absl::StrJoin(names, ", ");
}

absl::Status StoreValue(const Slot& slot, const std::string& value) {
  using google::protobuf::Reflection;
  switch (slot.field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      Store<std::string>(slot, &Reflection::SetString, &Reflection::AddString, value);
      return absl::OkStatus();
    case FieldDescriptor::CPPTYPE_BOOL: {
      if (value != "true" && value != "false") return Expected(slot, value, "true or false");
      Store<bool>(slot, &Reflection::SetBool, &Reflection::AddBool, value == "true");
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_INT32: {
      int32_t number = 0;
      if (!absl::SimpleAtoi(value, &number)) return Expected(slot, value, "an integer");
      Store<int32_t>(slot, &Reflection::SetInt32, &Reflection::AddInt32, number);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_INT64: {
      int64_t number = 0;
      if (!absl::SimpleAtoi(value, &number)) return Expected(slot, value, "an integer");
      Store<int64_t>(slot, &Reflection::SetInt64, &Reflection::AddInt64, number);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      double number = 0;
      if (!absl::SimpleAtod(value, &number)) return Expected(slot, value, "a number");
      Store<double>(slot, &Reflection::SetDouble, &Reflection::AddDouble, number);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_ENUM: {
      const EnumValueDescriptor* found = slot.field.enum_type()->FindValueByName(value);
      if (found == nullptr) return Expected(slot, value, "one of " + EnumNames(slot.field));
      Store<const EnumValueDescriptor*>(slot, &Reflection::SetEnum, &Reflection::AddEnum, found);
      return absl::OkStatus();
    }
    default:
      return FieldError(slot.field.name(), "holds other fields: set one of those");
  }
}

// The message that holds the last name of a dotted path, made on the way if it is absent.
absl::StatusOr<Slot> FindSlot(const std::string& path, Message& config) {
  Message* message = &config;
  const std::vector<std::string> names = absl::StrSplit(path, '.');
  for (size_t i = 0;; ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(names[i]);
    if (field == nullptr) return FieldError(path, "unknown field");
    if (i + 1 == names.size()) return Slot{*message, *field};
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || field->is_repeated()) {
      return FieldError(path, absl::StrCat(names[i], " has no fields"));
    }
    message = message->GetReflection()->MutableMessage(message, field);
  }
}

}  // namespace

absl::Status ParseConfig(std::string_view json, std::string_view source, Message& config) {
  const auto error = [&](absl::string_view reason) {
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(source), ": ", reason));
  };
  // Protobuf's parser lets duplicate keys and trailing text pass; ours does not.
  const auto strict = ParseJson(json, JsonLimits{.max_bytes = kMaxConfigBytes});
  if (!strict.ok()) return error(strict.status().message());
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = false;
  const auto status = google::protobuf::util::JsonStringToMessage(
      google::protobuf::StringPiece(json.data(), json.size()), &config, options);
  if (!status.ok()) {
    return error(absl::string_view(status.message().data(), status.message().size()));
  }
  return absl::OkStatus();
}

absl::Status LoadConfigFile(const std::string& path, Message& config) {
  ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(path, kMaxConfigBytes));
  return ParseConfig(text, path, config);
}

absl::Status ApplyOverride(std::string_view assignment, Message& config) {
  const std::vector<std::string> parts =
      absl::StrSplit(ToAbsl(assignment), absl::MaxSplits('=', 1));
  if (parts.size() != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", ToAbsl(assignment), "\": want field=value"));
  }
  ASSIGN_OR_RETURN(const Slot slot, FindSlot(parts[0], config));
  if (!slot.field.is_repeated()) return StoreValue(slot, parts[1]);
  slot.message.GetReflection()->ClearField(&slot.message, &slot.field);
  for (const auto& value : absl::StrSplit(parts[1], ',', absl::SkipEmpty())) {
    RETURN_IF_ERROR(StoreValue(slot, std::string(value)));
  }
  return absl::OkStatus();
}

}  // namespace krait
