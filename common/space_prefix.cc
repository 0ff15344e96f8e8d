#include "common/space_prefix.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace krait {
namespace {

constexpr std::string_view kNone = "null";
// https://huggingface.co/docs/tokenizers; keys in order, as Canonical() writes them.
constexpr std::string_view kReplace =
    R"({"content":"▁","pattern":{"String":" "},"type":"Replace"})";
constexpr std::string_view kPrependAndReplace =
    R"({"normalizers":[{"prepend":"▁","type":"Prepend"},)"
    R"({"content":"▁","pattern":{"String":" "},"type":"Replace"}],"type":"Sequence"})";
constexpr std::string_view kMetaspaceFirst =
    R"({"prepend_scheme":"first","replacement":"▁","split":false,"type":"Metaspace"})";
constexpr std::string_view kMetaspaceAlways =
    R"({"prepend_scheme":"always","replacement":"▁","split":false,"type":"Metaspace"})";
constexpr std::string_view kMetaspaceNever =
    R"({"prepend_scheme":"never","replacement":"▁","split":false,"type":"Metaspace"})";
constexpr std::string_view kDecodeAndStrip =
    R"({"decoders":[{"content":" ","pattern":{"String":"▁"},"type":"Replace"},)"
    R"({"type":"ByteFallback"},{"type":"Fuse"},)"
    R"({"content":" ","start":1,"stop":0,"type":"Strip"}],"type":"Sequence"})";
constexpr std::string_view kDecode =
    R"({"decoders":[{"content":" ","pattern":{"String":"▁"},"type":"Replace"},)"
    R"({"type":"ByteFallback"},{"type":"Fuse"}],"type":"Sequence"})";

struct KnownPrefix {
  SpacePrefix prefix;
  std::string_view name;
  SpacePrefixJson json;
};

constexpr KnownPrefix kKnownPrefixes[] = {
    {SpacePrefix::kNever, "none", {kReplace, kNone, kDecode}},
    {SpacePrefix::kNever, "none", {kNone, kMetaspaceNever, kDecode}},
    {SpacePrefix::kAlways, "prepend", {kPrependAndReplace, kNone, kDecodeAndStrip}},
    {SpacePrefix::kFirstSection, "metaspace-first", {kNone, kMetaspaceFirst, kDecodeAndStrip}},
    {SpacePrefix::kUnlessPresent, "metaspace-always", {kNone, kMetaspaceAlways, kDecodeAndStrip}},
};

// Fields that say again what another one says.
bool IsRedundant(const JsonValue& object, const std::string& key) {
  return object.Find("prepend_scheme") != nullptr &&
         (key == "add_prefix_space" || key == "str_rep");
}

// One text for all ways to write the same value. ReadJsonFile bounds the depth.
std::string Canonical(const JsonValue& value) {
  std::vector<std::string> parts;
  if (value.is_object()) {
    for (const auto& [key, element] : value.as_object()) {
      if (IsRedundant(value, key)) continue;
      parts.push_back(absl::StrCat(QuoteJson(key), ":", Canonical(element)));
    }
    std::sort(parts.begin(), parts.end());
  } else if (value.is_array()) {
    for (const JsonValue& element : value.as_array()) parts.push_back(Canonical(element));
  } else if (value.is_string()) {
    return QuoteJson(value.as_string());
  } else if (value.is_bool()) {
    return value.as_bool() ? "true" : "false";
  } else {
    return value.is_integer() ? absl::StrCat(value.as_int()) : value.is_null() ? "null" : "number";
  }
  std::string text = value.is_object() ? "{" : "[";
  for (size_t i = 0; i < parts.size(); ++i) absl::StrAppend(&text, i == 0 ? "" : ",", parts[i]);
  return text + (value.is_object() ? "}" : "]");
}

std::string CanonicalField(const JsonValue& object, std::string_view key) {
  const JsonValue* value = object.Find(key);
  return value == nullptr ? std::string(kNone) : Canonical(*value);
}

}  // namespace

std::string_view SpacePrefixName(SpacePrefix prefix) {
  return std::find_if(std::begin(kKnownPrefixes), std::end(kKnownPrefixes),
                      [&](const KnownPrefix& known) { return known.prefix == prefix; })
      ->name;
}

absl::StatusOr<SpacePrefix> FindSpacePrefix(std::string_view name) {
  std::string names;
  for (const KnownPrefix& known : kKnownPrefixes) {
    if (name == known.name) return known.prefix;
    absl::StrAppend(&names, names.empty() ? "" : ", ", ToAbsl(known.name));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("space prefix rule ", QuoteJson(name), " is not supported, only ", names));
}

absl::StatusOr<SpacePrefix> RecognizeSpacePrefix(const JsonValue& tokenizer) {
  const std::string normalizer = CanonicalField(tokenizer, "normalizer");
  const std::string pre_tokenizer = CanonicalField(tokenizer, "pre_tokenizer");
  const std::string decoder = CanonicalField(tokenizer, "decoder");
  for (const KnownPrefix& known : kKnownPrefixes) {
    if (normalizer == known.json.normalizer && pre_tokenizer == known.json.pre_tokenizer &&
        decoder == known.json.decoder) {
      return known.prefix;
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "normalizer ", normalizer.substr(0, 200), ", pre_tokenizer ", pre_tokenizer.substr(0, 200),
      ", decoder ", decoder.substr(0, 300),
      ": not one of the supported combinations for byte fallback (Prepend and Replace, or "
      "Metaspace without split, and the decoder that undoes them)"));
}

SpacePrefixJson ToJson(SpacePrefix prefix) {
  return std::find_if(std::begin(kKnownPrefixes), std::end(kKnownPrefixes),
                      [&](const KnownPrefix& known) { return known.prefix == prefix; })
      ->json;
}

}  // namespace krait
