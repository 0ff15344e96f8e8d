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

}  // namespace

std::string BenchJson(const BenchReport& report) {
  Json json = {{"threads", report.threads},
               {"ranks", report.ranks},
               {"weight_dtype", report.weight_dtype},
               {"read_bandwidth_bytes_per_second", report.read_bandwidth},
               {"weight_bytes", static_cast<int64_t>(report.weight_bytes)},
               {"state_bytes", 0},
               {"batches", Json::array()},
               {"row_seconds", report.row_seconds},
               {"drafts", Json::array()},
               {"best_read_bandwidth_bytes_per_second", report.best_read_bandwidth}};
  for (const BatchResult& batch : report.batches) {
    json["batches"].push_back(BatchJson(report, batch));
  }
  for (const DraftResult& draft : report.drafts) json["drafts"].push_back(DraftJson(draft));
  return DumpJson(json) + "\n";
}

}  // namespace krait
