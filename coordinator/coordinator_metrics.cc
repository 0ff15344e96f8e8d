#include "coordinator/coordinator_metrics.h"

namespace krait {
namespace {

constexpr std::pair<Method, const char*> kMethods[] = {{Method::kGenerate, "Generate"},
                                                       {Method::kTokenize, "Tokenize"},
                                                       {Method::kDetokenize, "Detokenize"},
                                                       {Method::kGetModelInfo, "GetModelInfo"}};

constexpr std::pair<Rejection, const char*> kRejections[] = {
    {Rejection::kMaxRequests, "max_requests"}, {Rejection::kTokenBudget, "token_budget"},
    {Rejection::kMaxQueued, "max_queued"},     {Rejection::kQueueTimeout, "queue_timeout"},
    {Rejection::kDeadline, "deadline"},        {Rejection::kDraining, "draining"},
    {Rejection::kWorkersFull, "workers_full"}};

constexpr std::pair<v1::WorkerRole, const char*> kRoles[] = {{v1::WORKER_ROLE_TARGET, "target"},
                                                             {v1::WORKER_ROLE_DRAFT, "draft"}};

constexpr std::pair<v1::WorkerState, const char*> kStates[] = {
    {v1::WORKER_STATE_JOINING, "joining"},
    {v1::WORKER_STATE_READY, "ready"},
    {v1::WORKER_STATE_DRAINING, "draining"},
    {v1::WORKER_STATE_GONE, "gone"}};

constexpr int kNumCodes = 17;  // of gRPC

std::string CodeLabel(int code) {
  return absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
}

}  // namespace

CoordinatorMetrics::CoordinatorMetrics(Metrics& m)
    : running(m.AddGauge("krait_num_requests_running", "Streams placed on a worker.")),
      waiting(m.AddGauge("krait_num_requests_waiting", "Streams that wait for a worker.")),
      tokens_in_flight(m.AddGauge("krait_tokens_in_flight",
                                  "Prompt + max_tokens of all admitted streams together.")),
      token_budget(m.AddGauge("krait_token_budget", "Limit of krait_tokens_in_flight.")),
      targets_with_draft(m.AddGauge("krait_targets_with_draft",
                                    "Live target workers that reach their draft worker.")),
      time_to_first_token(m.AddHistogram("krait_time_to_first_token_seconds",
                                         "From the request's arrival to its first token.",
                                         TimeToFirstTokenBuckets())),
      inter_token_latency(m.AddHistogram("krait_inter_token_latency_seconds",
                                         "Between tokens, shared evenly among those of a chunk.",
                                         InterTokenLatencyBuckets())),
      e2e_latency(m.AddHistogram("krait_e2e_request_latency_seconds",
                                 "From a stream's arrival to its end.", RequestLatencyBuckets())),
      queue_time(m.AddHistogram("krait_request_queue_time_seconds",
                                "From arrival to the first placement on a worker.",
                                RequestLatencyBuckets())),
      prompt_tokens(m.AddHistogram("krait_request_prompt_tokens", "Tokens of a prompt.",
                                   TokenCountBuckets())),
      generation_tokens(m.AddHistogram("krait_request_generation_tokens", "Tokens of an output.",
                                       TokenCountBuckets())),
      retries(m.AddCounter("krait_request_retries_total",
                           "Placements on another worker before the first token.")),
      retries_denied(m.AddCounter("krait_request_retries_denied_total",
                                  "Streams not placed again because the retry budget was spent.")),
      slow_clients(m.AddCounter("krait_slow_clients_total",
                                "Streams ended because their client did not read.")),
      streams_broken(m.AddCounter("krait_streams_broken_total",
                                  "Streams that lost their worker after the first token.")),
      duplicate_tokens(m.AddCounter("krait_duplicate_tokens_total",
                                    "Tokens dropped because they had been delivered.")),
      registrations_accepted(m.AddCounter("krait_worker_registrations_total",
                                          "Registrations of workers.", {{"outcome", "accepted"}})),
      registrations_refused(m.AddCounter("krait_worker_registrations_total",
                                         "Registrations of workers.", {{"outcome", "refused"}})),
      leases_expired(
          m.AddCounter("krait_worker_leases_expired_total", "Leases that were not renewed.")),
      draining(m.AddGauge("krait_draining", "1 while no new request is accepted.")),
      ready(m.AddGauge("krait_ready", "1 while /readyz says yes.")) {
  for (const auto& [method, name] : kMethods) {
    for (int code = 0; code < kNumCodes; ++code) {
      requests_[{method, code}] =
          &m.AddCounter("krait_requests_total", "Finished calls of the client API.",
                        {{"method", name}, {"code", CodeLabel(code)}});
    }
  }
  for (const auto& [reason, name] : kRejections) {
    rejected_[reason] = &m.AddCounter("krait_requests_rejected_total",
                                      "Streams refused for lack of capacity.", {{"reason", name}});
  }
  for (const bool stopped : {false, true}) {
    success_[stopped] =
        &m.AddCounter("krait_request_success_total", "Streams that ended by their own rules.",
                      {{"finished_reason", stopped ? "stop" : "length"}});
  }
  for (const auto& [role, role_name] : kRoles) {
    for (const auto& [state, state_name] : kStates) {
      workers_[{role, state}] = &m.AddGauge("krait_workers", "Known workers.",
                                            {{"worker_role", role_name}, {"state", state_name}});
    }
  }
}

void CoordinatorMetrics::CountRequest(Method method, absl::StatusCode code) {
  const auto found = requests_.find({method, static_cast<int>(code)});
  if (found != requests_.end()) found->second->Increment();
}

prometheus::Counter& CoordinatorMetrics::rejected(Rejection reason) {
  return *rejected_.at(reason);
}

prometheus::Counter& CoordinatorMetrics::success(bool stopped) { return *success_.at(stopped); }

prometheus::Gauge& CoordinatorMetrics::workers(v1::WorkerRole role, v1::WorkerState state) {
  return *workers_.at({role, state});
}

}  // namespace krait
