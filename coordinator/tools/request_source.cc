#include "coordinator/tools/request_source.h"

#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/tools/generate_request.h"

namespace krait {
namespace {

// With a space in front, each is one token of most vocabularies.
constexpr const char* kWords[] = {
    "the",   "time",  "people", "water", "house",  "world",  "small", "light", "found", "under",
    "right", "place", "great",  "where", "little", "after",  "three", "words", "still", "night",
    "point", "city",  "play",   "made",  "story",  "system", "group", "state", "river", "music"};

constexpr uint64_t kShapeStream = 0x9e3779b97f4a7c15;  // apart from the arrivals' seed

}  // namespace

absl::StatusOr<RequestSource> RequestSource::Create(const LoadOptions& options) {
  std::vector<std::string> prompts;
  if (!options.prompts_file.empty()) {
    std::ifstream file(options.prompts_file);
    if (!file) {
      return absl::NotFoundError(absl::StrCat("--prompts: cannot read ", options.prompts_file));
    }
    for (std::string line; std::getline(file, line);) {
      if (!line.empty()) prompts.push_back(line);
    }
    if (prompts.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--prompts: ", options.prompts_file, " has no line"));
    }
  }
  return RequestSource(options, std::move(prompts));
}

RequestSource::RequestSource(const LoadOptions& options, std::vector<std::string> prompts)
    : options_(options),
      prompts_(std::move(prompts)),
      arrivals_(options.seed()),
      shapes_(options.seed() ^ kShapeStream) {}

PlannedRequest RequestSource::Next() {
  PlannedRequest planned{.request = options_.request};
  const std::string prompt = NextPrompt();
  if (options_.chat) {
    AddMessage("user", prompt, *planned.request.mutable_chat());
  } else {
    planned.request.set_prompt(prompt);
  }
  v1::SamplingParams& sampling = *planned.request.mutable_sampling();
  const int output_tokens = Draw(options_.output_tokens);
  sampling.set_max_tokens(output_tokens);
  sampling.set_ignore_eos(!options_.until_eos);
  sampling.set_seed(options_.seed() + num_made_++);
  if (std::uniform_real_distribution<>()(shapes_) < options_.cancel_rate) {
    planned.cancel_after_tokens = Draw({0, output_tokens - 1});
  }
  return planned;
}

absl::Duration RequestSource::NextGap() {
  return absl::Seconds(std::exponential_distribution<>(*options_.rate)(arrivals_));
}

std::string RequestSource::NextPrompt() {
  if (!prompts_.empty()) return prompts_[num_made_ % prompts_.size()];
  const int num_words = Draw(options_.prompt_tokens);
  std::string prompt;
  for (int i = 0; i < num_words; ++i) {
    const int word = Draw({0, static_cast<int>(std::size(kWords)) - 1});
    absl::StrAppend(&prompt, i == 0 ? "" : " ", kWords[word]);
  }
  return prompt;
}

int RequestSource::Draw(TokenRange range) {
  return std::uniform_int_distribution<>(range.low, range.high)(shapes_);
}

}  // namespace krait
