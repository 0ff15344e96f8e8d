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

void SetUsage(const v1::Usage& usage, ordered_json& json) {
  json["usage"] = {{"prompt_tokens", usage.prompt_tokens()},
                   {"completion_tokens", usage.completion_tokens()}};
  const v1::SpeculationUsage& speculation = usage.speculation();
  json["speculation"] = {{"proposed", speculation.proposed()},
                         {"accepted", speculation.accepted()},
                         {"rounds", speculation.rounds()}};
}

}  // namespace

void GenerationResult::Add(const v1::GenerateResponse& chunk, absl::Duration now) {
  if (num_tokens_ == 0 && chunk.token_ids_size() > 0) {
    first_ = now;
    tokens_in_first_ = chunk.token_ids_size();
  }
  last_ = now;
  request_id_ = chunk.request_id();
  num_tokens_ += chunk.token_ids_size();
  Choice& choice = choices_[chunk.index()];
  choice.text += chunk.text();
  choice.token_ids.insert(choice.token_ids.end(), chunk.token_ids().begin(),
                          chunk.token_ids().end());
  choice.logprobs.insert(choice.logprobs.end(), chunk.logprobs().begin(), chunk.logprobs().end());
  if (chunk.has_total_usage()) total_usage_ = chunk.total_usage();
  if (chunk.finish_reason() == v1::FINISH_REASON_UNSPECIFIED) return;
  choice.finish_reason = chunk.finish_reason();
  choice.usage = chunk.usage();
}

double GenerationResult::tokens_per_second() const {
  const size_t later = num_tokens_ - tokens_in_first_;
  const size_t tokens = later > 0 ? later : num_tokens_;
  const double seconds = absl::ToDoubleSeconds(later > 0 ? last_ - first_ : first_);
  return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

std::string GenerationResult::text(int choice) const {
  const auto found = choices_.find(choice);
  return found == choices_.end() ? "" : found->second.text;
}

ordered_json GenerationResult::ChoiceJson(const Choice& choice) {
  ordered_json json = {{"text", choice.text},
                       {"token_ids", choice.token_ids},
                       {"finish_reason", ReasonName(choice.finish_reason)}};
  if (!choice.logprobs.empty()) json["logprobs"] = LogprobsJson(choice.logprobs);
  SetUsage(choice.usage, json);
  return json;
}

std::string GenerationResult::ToJson(const v1::ListWorkersResponse& workers) const {
  ordered_json json = {{"request_id", request_id_}};
  if (choices_.size() == 1) {
    json.update(ChoiceJson(choices_.begin()->second));
  } else {
    json["choices"] = ordered_json::array();
    for (const auto& [index, choice] : choices_) {
      json["choices"].push_back({{"index", index}});
      json["choices"].back().update(ChoiceJson(choice));
    }
    SetUsage(total_usage_, json);
  }
  json["time_to_first_token_s"] = absl::ToDoubleSeconds(first_);
  json["tokens_per_second"] = tokens_per_second();
  json["topology"] = TopologyJson(workers);
  return DumpJson(json);
}

}  // namespace krait
