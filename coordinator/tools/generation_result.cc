#include "coordinator/tools/generation_result.h"

#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"
#include "coordinator/tools/cluster_client.h"
#include "coordinator/tools/json_writer.h"

namespace krait {
namespace {

std::string ReasonName(v1::FinishReason reason) {
  const std::string name = v1::FinishReason_Name(reason);
  return absl::AsciiStrToLower(absl::StripPrefix(name, "FINISH_REASON_"));
}

void WriteLogprob(const v1::TokenLogprob& logprob, JsonWriter& json) {
  json.BeginObject().Key("token_id").Int(logprob.token_id());
  json.Key("logprob").Double(logprob.logprob()).End();
}

void WriteLogprobs(const std::vector<v1::PositionLogprobs>& positions, JsonWriter& json) {
  json.Key("logprobs").BeginArray();
  for (const v1::PositionLogprobs& position : positions) {
    json.BeginObject().Key("token");
    WriteLogprob(position.token(), json);
    json.Key("top").BeginArray();
    for (const v1::TokenLogprob& top : position.top()) WriteLogprob(top, json);
    json.End().End();
  }
  json.End();
}

void WriteUsage(const v1::Usage& usage, JsonWriter& json) {
  json.Key("usage").BeginObject().Key("prompt_tokens").Int(usage.prompt_tokens());
  json.Key("completion_tokens").Int(usage.completion_tokens()).End();
  const v1::SpeculationUsage& speculation = usage.speculation();
  json.Key("speculation").BeginObject().Key("proposed").Int(speculation.proposed());
  json.Key("accepted").Int(speculation.accepted()).Key("rounds").Int(speculation.rounds()).End();
}

}  // namespace

void GenerationResult::Add(const v1::GenerateResponse& chunk, absl::Duration now) {
  if (token_ids_.empty() && chunk.token_ids_size() > 0) {
    first_ = now;
    tokens_in_first_ = chunk.token_ids_size();
  }
  last_ = now;
  request_id_ = chunk.request_id();
  text_ += chunk.text();
  token_ids_.insert(token_ids_.end(), chunk.token_ids().begin(), chunk.token_ids().end());
  logprobs_.insert(logprobs_.end(), chunk.logprobs().begin(), chunk.logprobs().end());
  if (chunk.finish_reason() == v1::FINISH_REASON_UNSPECIFIED) return;
  finish_reason_ = chunk.finish_reason();
  usage_ = chunk.usage();
}

double GenerationResult::tokens_per_second() const {
  const double seconds = absl::ToDoubleSeconds(last_ - first_);
  const size_t tokens = token_ids_.size() - tokens_in_first_;
  return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

std::string GenerationResult::ToJson(const v1::ListWorkersResponse& workers) const {
  JsonWriter json;
  json.BeginObject().Key("request_id").String(request_id_).Key("text").String(text_);
  json.Key("token_ids").BeginArray();
  for (int32_t id : token_ids_) json.Int(id);
  json.End().Key("finish_reason").String(ReasonName(finish_reason_));
  if (!logprobs_.empty()) WriteLogprobs(logprobs_, json);
  WriteUsage(usage_, json);
  json.Key("time_to_first_token_s").Double(absl::ToDoubleSeconds(first_));
  json.Key("tokens_per_second").Double(tokens_per_second());
  json.Key("topology");
  WriteTopology(workers, json);
  return json.End().text();
}

}  // namespace krait
