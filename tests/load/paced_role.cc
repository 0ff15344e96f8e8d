#include "tests/load/paced_role.h"

#include "common/status_macros.h"
#include "common/vocabulary.h"
#include "worker/server/proto_conversion.h"

namespace krait {
namespace {

constexpr int kContext = 8192;

}  // namespace

PacedRole::PacedRole(const WorkerOptions& options, const PacedOptions& paced,
                     const RoleParts& parts)
    : options_(options),
      paced_(paced),
      clock_(parts.clock),
      running_(parts.metrics->AddGauge("krait_num_requests_running", "Running requests.")),
      waiting_(parts.metrics->AddGauge("krait_num_requests_waiting", "Waiting requests.")),
      service_(parts.clock, parts.epochs, parts.on_drain) {}

NamedService PacedRole::service() {
  return {internal::v1::WorkerService::service_full_name(), &service_};
}

absl::Status PacedRole::Load(const std::function<void(double)>&) {
  ASSIGN_OR_RETURN(const Vocabulary vocabulary, Vocabulary::Load(options_.model_path));
  tokenizer_digest_ = vocabulary.Digest();
  vocab_size_ = static_cast<int>(vocabulary.pieces.size());
  engine_ = std::make_unique<PacedEngine>(paced_, clock_);
  service_.SetEngine(engine_.get(), {.limits = {kContext, vocab_size_}, .eos_ids = {}});
  return absl::OkStatus();
}

void PacedRole::Describe(internal::v1::RegisterRequest& request) const {
  v1::Worker& worker = *request.mutable_worker();
  worker.set_role(v1::WORKER_ROLE_TARGET);
  worker.set_weights_digest("none");
  worker.set_tokenizer_digest(tokenizer_digest_);
  request.set_max_context_tokens(kContext);
  request.set_vocab_size(vocab_size_);
}

void PacedRole::FillLoad(internal::v1::HeartbeatRequest& heartbeat) const {
  *heartbeat.mutable_load() = ToProto(engine_->Load());
}

void PacedRole::UpdateMetrics() {
  const EngineLoad load = engine_->Load();
  running_.Set(load.running);
  waiting_.Set(load.waiting);
}

}  // namespace krait
