#include "worker/speculative/draft_model.h"

#include <cstring>
#include <utility>

#include "common/logging.h"
#include "common/request_limits.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "common/vocabulary.h"
#include "worker/comm/in_process_communicator.h"
#include "worker/models/model_config.h"
#include "worker/weights/checkpoint.h"

namespace krait {

absl::StatusOr<std::unique_ptr<DraftModel>> DraftModel::Load(const DraftModelOptions& options) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(options.model_path));
  ASSIGN_OR_RETURN(const ModelConfig config, ModelConfig::Load(checkpoint, options.rope_scaling));
  std::unique_ptr<DraftModel> model(new DraftModel);
  ASSIGN_OR_RETURN(model->backend_, CreateBackend(options.device, options.num_threads));
  Backend* backend = model->backend_.get();
  model->comm_ = std::move(CreateInProcessGroup(absl::MakeConstSpan(&backend, 1))[0]);
  ModelRunnerOptions runner = options.runner;
  runner.max_logits = std::max(runner.max_logits, options.max_sequences);
  runner.max_tokens = std::max(runner.max_tokens, options.max_sequences);
  if (runner.num_state_slots == 0) runner.num_state_slots = options.max_sequences;
  runner.max_draft_tokens = kMaxRequestDraftTokens;
  if (runner.num_pages == 0) {
    const int64_t pages = (config.max_context_tokens + runner.page_size - 1) / runner.page_size;
    runner.num_pages = static_cast<int>(pages * options.max_sequences);
  }
  ASSIGN_OR_RETURN(model->runner_,
                   ModelRunner::Create(runner, config, checkpoint, backend, model->comm_.get()));
  RETURN_IF_ERROR(checkpoint.CheckAllRead());
  model->chains_ = options.chains.value_or(options.device.kind == DeviceKind::kCuda);
  for (int pass = 0; pass < kMaxChain; ++pass) {
    model->reads_.push_back(
        backend->MakeLateRead(runner.max_logits * static_cast<int64_t>(sizeof(TokenId))));
  }
  model->sampler_ = std::make_unique<ShardSampler>(backend, model->runner_->vocab_shard(), 1);
  return model;
}

std::vector<DrawChoice> DraftModel::ChoicesOf(absl::Span<const SampleRow> samples) const {
  std::vector<DrawChoice> choices;
  for (const SampleRow& sample : samples) {
    if (sample.rule != DrawRule::kGumbel) return {};
    const std::optional<DrawChoice> choice = runner_->DrawChoiceFor(*sample.params);
    if (!choice.has_value()) return {};
    choices.push_back(*choice);
  }
  return choices;
}

absl::Status DraftModel::Start(int pass, absl::Span<const BatchRow> rows,
                               absl::Span<const DrawChoice> choices) {
  RETURN_IF_ERROR(runner_->Forward(rows, choices).status());
  reads_[pass]->Start(runner_->drawn().Rows(0, static_cast<int64_t>(choices.size())));
  return absl::OkStatus();
}

std::vector<TokenId> DraftModel::Read(int pass, int num_draws) {
  std::vector<TokenId> drawn(num_draws);
  reads_[pass]->Finish(drawn.data());
  return drawn;
}

absl::StatusOr<std::vector<SampledToken>> DraftModel::Run(absl::Span<const BatchRow> rows,
                                                          absl::Span<const SampleRow> samples) {
  if (const std::vector<DrawChoice> choices = ChoicesOf(samples); !choices.empty()) {
    RETURN_IF_ERROR(Start(0, rows, choices));
    std::vector<SampledToken> tokens;
    for (const TokenId id : Read(0, static_cast<int>(choices.size()))) {
      tokens.push_back({.id = id, .finite = id != kNoToken});
    }
    return tokens;
  }
  ASSIGN_OR_RETURN(const TensorView logits, runner_->Forward(rows));
  return sampler_->Sample(logits, samples,
                          [](absl::Span<const std::byte> send, absl::Span<std::byte> recv) {
                            std::memcpy(recv.data(), send.data(), send.size());
                            return absl::OkStatus();
                          });
}

absl::StatusOr<std::string> CheckDraft(const DraftModelOptions& options) {
  if (!options.tokenizer_digest.empty()) {
    ASSIGN_OR_RETURN(const Vocabulary vocabulary, Vocabulary::Load(options.model_path));
    if (vocabulary.Digest() != options.tokenizer_digest) {
      LOG(WARNING) << "speculation is off: the draft's tokenizer is " << vocabulary.Digest()
                   << ", the target's " << options.tokenizer_digest;
      return "tokenizer_mismatch";
    }
  }
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(options.model_path));
  ASSIGN_OR_RETURN(const ModelConfig config, ModelConfig::Load(checkpoint));
  if (options.vocab_size > 0 && config.vocab_size != options.vocab_size) {
    LOG(WARNING) << "speculation is off: the draft takes " << config.vocab_size
                 << " token ids, the target has " << options.vocab_size;
    return "token_map";
  }
  const auto map = config.LoadDraftTokenMap(checkpoint);
  if (!map.ok()) {
    LOG(WARNING) << "speculation is off: " << LogText(ToStd(map.status().message()));
    return "token_map";
  }
  return "";
}

}  // namespace krait
