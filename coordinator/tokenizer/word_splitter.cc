#include "coordinator/tokenizer/word_splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/splitting_rule.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "coordinator/tokenizer/character_classes.h"

namespace krait {
namespace {

// A word takes one step a character and a few more; these end only what has gone wrong.
constexpr uint32_t kMatchLimit = 50'000'000;
constexpr uint32_t kDepthLimit = 10'000;
constexpr uint32_t kHeapLimitKib = 32 * 1024;

// GPT-2: https://github.com/openai/gpt-2, encoder.py.
constexpr char kGpt2Words[] =
    "'s|'t|'re|'ve|'m|'ll|'d"
    "| ?[" KRAIT_LETTERS "]+| ?[" KRAIT_NUMBERS "]+| ?[^" KRAIT_SPACES KRAIT_LETTERS KRAIT_NUMBERS
    "]+|[" KRAIT_SPACES "]+(?![^" KRAIT_SPACES "])|[" KRAIT_SPACES "]+";

// Every digit alone, before GPT-2's rule sees the rest (SmolLM's tokenizer.json).
constexpr char kSingleDigits[] = "[" KRAIT_DIGITS "]";

// Llama 3's tokenizer.json.
constexpr char kLlama3Words[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    "|[^\\r\\n" KRAIT_LETTERS KRAIT_NUMBERS "]?[" KRAIT_LETTERS "]+|[" KRAIT_NUMBERS
    "]{1,3}"
    "| ?[^" KRAIT_SPACES KRAIT_LETTERS KRAIT_NUMBERS "]+[\\r\\n]*|[" KRAIT_SPACES
    "]*[\\r\\n]+"
    "|[" KRAIT_SPACES "]+(?![^" KRAIT_SPACES "])|[" KRAIT_SPACES "]+";

std::vector<const char*> PatternsOf(std::string_view rule) {
  if (rule == "smollm") return {kSingleDigits, kGpt2Words};
  if (rule == "gpt-2") return {kGpt2Words};
  CHECK(rule == "llama-bpe") << "a known splitting rule has no patterns";
  return {kLlama3Words};
}

template <auto free_function>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    free_function(object);
  }
};
using Code = std::unique_ptr<pcre2_code, Free<pcre2_code_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Free<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Free<pcre2_match_data_free>>;

Code Compile(const char* pattern) {
  int error = 0;
  size_t offset = 0;
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern), PCRE2_ZERO_TERMINATED,
                          PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset,
                          nullptr));
  CHECK(code != nullptr) << "pattern does not compile, error=" << error << " offset=" << offset;
  // Machines without a JIT interpret, to the same result.
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  return code;
}

MatchContext MakeLimits() {
  MatchContext context(pcre2_match_context_create(nullptr));
  CHECK(context != nullptr) << "out of memory";
  pcre2_set_match_limit(context.get(), kMatchLimit);
  pcre2_set_depth_limit(context.get(), kDepthLimit);
  pcre2_set_heap_limit(context.get(), kHeapLimitKib);
  return context;
}

}  // namespace

// One regular expression. What it matches is a word, what lies between two matches too.
class WordSplitter::Stage {
 public:
  explicit Stage(const char* pattern) : code_(Compile(pattern)), limits_(MakeLimits()) {}

  MatchData MakeMatchData() const {
    MatchData data(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
    CHECK(data != nullptr) << "out of memory";
    return data;
  }

  struct Span {
    size_t begin, end;
  };
  // The next match that is not empty, at or behind `from`; {size, size} if there is none.
  absl::StatusOr<Span> Find(std::string_view text, size_t from, pcre2_match_data* data) const {
    const int result =
        pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                    PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, data, limits_.get());
    if (result == PCRE2_ERROR_NOMATCH) return Span{text.size(), text.size()};
    if (result < 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "text is too costly to split into words: PCRE2 error ", result, " at byte ", from));
    }
    const size_t* offsets = pcre2_get_ovector_pointer(data);
    return Span{offsets[0], offsets[1]};
  }

 private:
  const Code code_;
  const MatchContext limits_;
};

namespace {

// The stages from `stages` on, over one piece of the text. A template because Stage is private.
template <typename Stages>
absl::Status SplitByStages(const Stages& stages, const std::vector<MatchData>& data, size_t depth,
                           std::string_view text,
                           absl::FunctionRef<void(std::string_view)> on_word) {
  if (text.empty()) return absl::OkStatus();
  if (depth == stages.size()) {
    on_word(text);
    return absl::OkStatus();
  }
  const auto deeper = [&](size_t begin, size_t end) {
    return SplitByStages(stages, data, depth + 1, text.substr(begin, end - begin), on_word);
  };
  for (size_t at = 0; at < text.size();) {
    ASSIGN_OR_RETURN(const auto match, stages[depth]->Find(text, at, data[depth].get()));
    RETURN_IF_ERROR(deeper(at, match.begin));
    RETURN_IF_ERROR(deeper(match.begin, match.end));
    at = match.end;
  }
  return absl::OkStatus();
}

}  // namespace

WordSplitter::WordSplitter(std::vector<std::unique_ptr<const Stage>> stages)
    : stages_(std::move(stages)) {}
WordSplitter::WordSplitter(WordSplitter&&) noexcept = default;
WordSplitter::~WordSplitter() = default;

absl::StatusOr<WordSplitter> WordSplitter::Create(std::string_view rule) {
  ASSIGN_OR_RETURN(const SplittingRule known, FindSplittingRule(rule));
  std::vector<std::unique_ptr<const Stage>> stages;
  for (const char* pattern : PatternsOf(known.name)) {
    stages.push_back(std::make_unique<const Stage>(pattern));
  }
  return WordSplitter(std::move(stages));
}

absl::Status WordSplitter::Split(std::string_view text,
                                 absl::FunctionRef<void(std::string_view)> on_word) const {
  std::vector<MatchData> data;
  for (const auto& stage : stages_) data.push_back(stage->MakeMatchData());
  return SplitByStages(stages_, data, 0, text, on_word);
}

}  // namespace krait
