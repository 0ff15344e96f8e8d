#include "coordinator/server/session_record.h"

#include "absl/strings/str_cat.h"
#include "common/failpoint.h"
#include "common/logging.h"

namespace krait {
namespace {

// The failpoint coordinator.leak: 1 KiB a request.
void Leak() {
  char* volatile leaked = new char[1024];  // volatile: the compiler would leave it out
  (void)leaked;
}

}  // namespace

std::string SessionRecord::Name(const PreparedRequest& request) const {
  return absl::StrCat("request_id=", request.request_id, " trace_id=", trace_id_);
}

void SessionRecord::OnPlaced(int attempt) const {
  if (attempt == 1) {
    context_.metrics.queue_time.Observe(absl::ToDoubleSeconds(context_.clock.Now() - arrival_));
  } else {
    context_.metrics.retries.Increment();
  }
}

// A first token counts once a request, a gap between two tokens lies within a choice.
void SessionRecord::OnTokens(const ResponseAssembler& delivered, int choice, int count) {
  last_token_.resize(delivered.num_choices());
  CoordinatorMetrics& metrics = context_.metrics;
  const absl::Duration now = context_.clock.Now();
  if (delivered.num_tokens() == count) {
    metrics.time_to_first_token.Observe(absl::ToDoubleSeconds(now - arrival_));
  } else if (delivered.num_tokens(choice) > count) {
    const double gap = absl::ToDoubleSeconds(now - last_token_[choice]) / count;
    for (int i = 0; i < count; ++i) metrics.inter_token_latency.Observe(gap);
  }
  last_token_[choice] = now;
}

void SessionRecord::OnLoss(const PreparedRequest& request, const WorkerKey& worker, int attempt,
                           int num_tokens, const absl::Status& status) const {
  LOG(WARNING) << Name(request) << " worker=" << worker.name << " epoch=" << worker.epoch
               << " tokens=" << num_tokens << " attempt=" << attempt
               << " status=" << LogText(status.ToString());
}

void SessionRecord::OnSlowClient(const PreparedRequest& request) const {
  LOG(WARNING) << Name(request) << " msg=\"client does not read, stream ended\"";
  context_.metrics.slow_clients.Increment();
}

void SessionRecord::OnEnd(const PreparedRequest& request, const absl::Status& status,
                          int num_tokens, int attempts, const v1::GenerateResponse& last) const {
  if (FailpointEnabled("coordinator.leak")) Leak();
  CoordinatorMetrics& metrics = context_.metrics;
  const double seconds = absl::ToDoubleSeconds(context_.clock.Now() - arrival_);
  metrics.CountRequest(Method::kGenerate, status.code());
  metrics.e2e_latency.Observe(seconds);
  if (num_tokens > 0) metrics.generation_tokens.Observe(num_tokens);
  if (status.ok()) metrics.success(last.finish_reason() == v1::FINISH_REASON_STOP).Increment();
  VLOG(1) << Name(request) << " code=" << absl::StatusCodeToString(status.code())
          << " prompt_tokens=" << request.num_prompt_tokens() << " tokens=" << num_tokens
          << " attempts=" << attempts << " seconds=" << seconds;
}

}  // namespace krait
