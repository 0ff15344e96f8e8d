#include "worker/tools/bench_runner.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/tools/collecting_sink.h"

namespace krait {

double BenchRun::MedianStepSeconds() const {
  if (steps.empty()) return 0;
  std::vector<double> seconds;
  for (const StepStats& step : steps) seconds.push_back(absl::ToDoubleSeconds(step.duration));
  std::nth_element(seconds.begin(), seconds.begin() + seconds.size() / 2, seconds.end());
  return seconds[seconds.size() / 2];
}

double BenchRun::TokensPerSecond() const {
  double tokens = 0, seconds = 0;
  for (const StepStats& step : steps) {
    tokens += step.generated_tokens;
    seconds += absl::ToDoubleSeconds(step.duration);
  }
  return seconds > 0 ? tokens / seconds : 0;
}

std::vector<TokenId> BenchPrompt(int vocab_size, int prompt_tokens, int index) {
  std::mt19937 random(index + 1);
  std::vector<TokenId> prompt(prompt_tokens);
  for (TokenId& id : prompt) id = static_cast<TokenId>(random() % vocab_size);
  return prompt;
}

absl::StatusOr<BenchRun> RunWorkload(Engine& engine, StepRecorder& recorder,
                                     const BenchWorkload& workload) {
  recorder.Take();
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int i = 0; i < workload.batch; ++i) {
    GenerationRequest request{
        .request_id = absl::StrCat("bench-", i),
        .prompt = BenchPrompt(engine.vocab_size(), workload.prompt_tokens, i)};
    request.sampling.temperature = 0;
    request.stop.max_tokens = workload.max_tokens;
    request.max_draft_tokens = workload.max_draft_tokens;
    sinks.push_back(std::make_shared<CollectingSink>());
    RETURN_IF_ERROR(engine.Submit(std::move(request), sinks.back()));
  }
  for (const auto& sink : sinks) {
    sink->ended.WaitForNotification();
    RETURN_IF_ERROR(sink->status);
  }
  engine.WaitIdle(absl::InfiniteDuration());
  BenchRun run{.steps = recorder.Take(), .first_output = sinks[0]->token_ids};
  std::erase_if(run.steps, [&](const StepStats& step) {
    return step.prefill_tokens > 0 || step.decode_rows < workload.batch;
  });
  return run;
}

}  // namespace krait
