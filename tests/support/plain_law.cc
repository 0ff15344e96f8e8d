#include "tests/support/plain_law.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

namespace krait::testing {
namespace {

void Process(const SampleRow& row, std::vector<float>& logits) {
  const SamplingParams& params = *row.params;
  for (const LogitBias& entry : params.logit_bias) logits[entry.id] += entry.bias;
  const size_t generated = row.history.size() - row.prompt_tokens + row.drafts.size();
  if (generated < static_cast<size_t>(params.min_tokens)) {
    for (const TokenId id : params.end_ids) logits[id] = -std::numeric_limits<float>::infinity();
  }
  std::map<TokenId, int> output;
  std::vector<TokenId> path(row.history.begin(), row.history.end());
  path.insert(path.end(), row.drafts.begin(), row.drafts.end());
  for (size_t i = 0; i < path.size(); ++i) {
    output[path[i]] += static_cast<int>(i) >= row.prompt_tokens;
  }
  for (const auto& [id, count] : output) {
    float& l = logits[id];
    l = l > 0 ? l / params.repetition_penalty : l * params.repetition_penalty;
    if (count > 0) l -= count * params.frequency_penalty + params.presence_penalty;
  }
}

}  // namespace

Law PlainLaw(std::vector<float> logits, const SampleRow& row) {
  Process(row, logits);
  const SamplingParams& params = *row.params;
  std::vector<TokenId> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(),
                   [&](TokenId a, TokenId b) { return logits[a] > logits[b]; });
  const double max = logits[ids[0]];
  Law law(logits.size(), 0);
  double total = 0;
  const auto weight = [&](TokenId id) { return std::exp((logits[id] - max) / params.temperature); };
  std::vector<TokenId> kept;
  for (const TokenId id : ids) {
    const bool listed = params.top_k == 0 || kept.size() < static_cast<size_t>(params.top_k);
    if (listed && weight(id) >= params.min_p) kept.push_back(id);
  }
  for (const TokenId id : kept) total += weight(id);
  double sum = 0;
  for (const TokenId id : kept) {
    if (params.top_p < 1 && sum >= params.top_p * total) break;
    sum += law[id] = weight(id);
  }
  for (double& p : law) p /= sum;
  return law;
}

double Overlap(const Law& p, const Law& q) {
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) sum += std::min(p[i], q[i]);
  return sum;
}

}  // namespace krait::testing
