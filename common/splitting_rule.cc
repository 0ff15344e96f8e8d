#include "common/splitting_rule.h"

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace krait {
namespace {

struct KnownRule {
  SplittingRule rule;
  std::string_view alias;  // another published name, may be empty
  std::string_view steps;  // as Describe() writes them
};

// steps: https://huggingface.co/docs/tokenizers, pre_tokenizers, as in the models' own files.
constexpr KnownRule kKnownRules[] = {
    {{"smollm", false}, "", "Digits(individual) ByteLevel(regex)"},
    {{"gpt-2", false}, "gpt2", "ByteLevel(regex)"},
    {{"llama-bpe", true},
     "llama3",
     R"(Split((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
     R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+) ByteLevel)"},
};

std::string KnownNames() {
  std::string names;
  for (const KnownRule& known : kKnownRules) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", ToAbsl(known.rule.name));
  }
  return names;
}

bool BoolOr(const JsonValue& object, std::string_view key, bool fallback) {
  const JsonValue* value = object.Find(key);
  return value != nullptr && value->is_bool() ? value->as_bool() : fallback;
}

std::string DescribeSplit(const JsonValue& step) {
  const JsonValue* pattern = step.Find("pattern");
  const JsonValue* regex = pattern == nullptr ? nullptr : pattern->Find("Regex");
  const JsonValue* behavior = step.Find("behavior");
  const bool plain = regex != nullptr && regex->is_string() && behavior != nullptr &&
                     behavior->is_string() && behavior->as_string() == "Isolated" &&
                     !BoolOr(step, "invert", false);
  return plain ? absl::StrCat("Split(", regex->as_string(), ")") : "Split(another form)";
}

// One step in a line of text that holds all that matters for the result (trim_offsets does not).
std::string DescribeStep(const JsonValue& step) {
  const JsonValue* type = step.Find("type");
  if (type == nullptr || !type->is_string()) return "untyped";
  const std::string& name = type->as_string();
  if (name == "Digits") {
    return BoolOr(step, "individual_digits", false) ? "Digits(individual)" : "Digits";
  }
  if (name == "ByteLevel") {
    return absl::StrCat("ByteLevel", BoolOr(step, "add_prefix_space", true) ? "(prefix space)" : "",
                        BoolOr(step, "use_regex", true) ? "(regex)" : "");
  }
  if (name == "Split") return DescribeSplit(step);
  return name;
}

std::string Describe(const JsonValue& pre_tokenizer) {
  const JsonValue* steps =
      pre_tokenizer.is_object() ? pre_tokenizer.Find("pretokenizers") : nullptr;
  if (steps == nullptr || !steps->is_array()) {
    return pre_tokenizer.is_object() ? DescribeStep(pre_tokenizer) : "none";
  }
  std::string text;
  for (const JsonValue& step : steps->as_array()) {
    absl::StrAppend(&text, text.empty() ? "" : " ",
                    step.is_object() ? DescribeStep(step) : "not an object");
  }
  return text;
}

}  // namespace

absl::StatusOr<SplittingRule> FindSplittingRule(std::string_view name) {
  for (const KnownRule& known : kKnownRules) {
    if (name == known.rule.name || (!known.alias.empty() && name == known.alias)) return known.rule;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("splitting rule ", QuoteJson(name), " is not supported, only ", KnownNames()));
}

absl::StatusOr<SplittingRule> RecognizeSplittingRule(const JsonValue& pre_tokenizer) {
  const std::string steps = Describe(pre_tokenizer);
  for (const KnownRule& known : kKnownRules) {
    if (steps == known.steps) return known.rule;
  }
  return absl::InvalidArgumentError(absl::StrCat("pre_tokenizer ", QuoteJson(steps.substr(0, 200)),
                                                 " is none of those supported: ", KnownNames()));
}

}  // namespace krait
