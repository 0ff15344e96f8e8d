#include "coordinator/tools/generation_result.h"

#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"
#include "common/json_document.h"
#include "coordinator/tools/cluster_client.h"

namespace krait {
namespace {

using nlohmann::ordered_json;

std::string ReasonName(v1::FinishReason reason) {
  const std::string name = v1::FinishReason_Name(reason);
  return absl::AsciiStrToLower(absl::StripPrefix(name, "FINISH_REASON_"));
}

ordered_json LogprobJson(const v1::TokenLogprob& logprob) {
  return {{"token_id", logprob.token_id()}, {"logprob", logprob.logprob()}};
}

ordered_json LogprobsJson(const std::vector<v1::PositionLogprobs>& positions) {
  ordered_json all = ordered_json::array();
  for (const v1::PositionLogprobs& position : positions) {
    ordered_json top = ordered_json::array();
    for (const v1::TokenLogprob& each : position.top()) top.push_back(LogprobJson(each));
    all.push_back({{"token", LogprobJson(position.token())}, {"top", std::move(top)}});
  }
  return all;
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
  ordered_json json = {{"request_id", request_id_},
                       {"text", text_},
                       {"token_ids", token_ids_},
                       {"finish_reason", ReasonName(finish_reason_)}};
  if (!logprobs_.empty()) json["logprobs"] = LogprobsJson(logprobs_);
  json["usage"] = {{"prompt_tokens", usage_.prompt_tokens()},
                   {"completion_tokens", usage_.completion_tokens()}};
  const v1::SpeculationUsage& speculation = usage_.speculation();
  json["speculation"] = {{"proposed", speculation.proposed()},
                         {"accepted", speculation.accepted()},
                         {"rounds", speculation.rounds()}};
  json["time_to_first_token_s"] = absl::ToDoubleSeconds(first_);
  json["tokens_per_second"] = tokens_per_second();
  json["topology"] = TopologyJson(workers);
  return DumpJson(json);
}

}  // namespace krait
