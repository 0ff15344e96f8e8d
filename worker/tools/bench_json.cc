#include "worker/tools/bench_json.h"

#include <cstdint>
#include <nlohmann/json.hpp>

#include "common/json_document.h"

namespace krait {
namespace {

using Json = nlohmann::ordered_json;

// Paths of draft models are the machine's business.
std::string KindOfDraft(const std::string& draft) {
  const bool word = draft == "self-trace" || draft == "random" || draft == "ngram";
  return word ? draft : "model";
}

Json BatchJson(const BenchReport& report, const BatchResult& batch) {
  return {{"batch", batch.batch},
          {"step_seconds", batch.step_seconds},
          {"tokens_per_second", batch.tokens_per_second},
          {"kv_bytes", static_cast<int64_t>(batch.kv_bytes)},
          {"state_bytes", static_cast<int64_t>(batch.state_bytes)},
          {"bandwidth_fraction", report.BandwidthFraction(batch)},
          {"read_bandwidth_bytes_per_second", batch.read_bandwidth}};
}

Json DraftJson(const DraftResult& draft) {
  return {{"draft", KindOfDraft(draft.draft)},
          {"tokens_per_second", draft.tokens_per_second},
          {"plain_tokens_per_second", draft.plain_tokens_per_second},
          {"ratio", draft.MedianRatio()},
          {"ratios", draft.ratios},
          {"acceptance", draft.acceptance},
          {"same_tokens", draft.same_tokens},
          {"drafts_by_round", draft.drafts_by_round}};
}

Json MixerJson(const MixerResult& mixer) {
  return {{"mixer", mixer.name},
          {"layers", mixer.layers},
          {"fold_interval", mixer.fold_interval},
          {"state_bytes", mixer.state_bytes},
          {"entry_bytes", mixer.entry_bytes}};
}

Json StateJson(const BenchReport& report, const StateResult& state) {
  return {{"draft_tokens", state.num_draft_tokens},
          {"tokens_per_step", state.tokens_per_step},
          {"steps", state.num_steps},
          {"state_bytes_read", state.state_read},
          {"state_bytes_written", state.state_written},
          {"ring_bytes_read", state.ring_read},
          {"ring_bytes_written", state.ring_written},
          {"convolution_bytes", state.conv_bytes},
          {"formula_bytes", state.Formula(report.mixers)},
          {"snapshot_bytes", state.Snapshots(report.mixers)},
          {"fewer_than_snapshots", state.Snapshots(report.mixers) / state.of_states()}};
}

}  // namespace

std::string BenchJson(const BenchReport& report) {
  Json json = {{"threads", report.threads},
               {"ranks", report.ranks},
               {"weight_dtype", report.weight_dtype},
               {"read_bandwidth_bytes_per_second", report.read_bandwidth},
               {"weight_bytes", static_cast<int64_t>(report.weight_bytes)},
               {"state_bytes",
                report.batches.empty() ? 0 : static_cast<int64_t>(report.batches[0].state_bytes)},
               {"batches", Json::array()},
               {"row_seconds", report.row_seconds},
               {"drafts", Json::array()},
               {"best_read_bandwidth_bytes_per_second", report.best_read_bandwidth}};
  for (const BatchResult& batch : report.batches) {
    json["batches"].push_back(BatchJson(report, batch));
  }
  if (report.layers > 0) {
    json["measured"] = {{"layers", report.layers},
                        {"of_layers", report.all_layers},
                        {"vocab_size", report.vocab_size},
                        {"of_vocab_size", report.all_vocab_size}};
  }
  for (const MixerResult& mixer : report.mixers) json["mixers"].push_back(MixerJson(mixer));
  for (const StateResult& state : report.states) {
    json["states"].push_back(StateJson(report, state));
  }
  for (const DraftResult& draft : report.drafts) json["drafts"].push_back(DraftJson(draft));
  return DumpJson(json) + "\n";
}

}  // namespace krait
