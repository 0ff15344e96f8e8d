#include "worker/sampling/logits_processors.h"

#include <algorithm>
#include <limits>

#include "worker/sampling/token_counter.h"

namespace krait {
namespace {

bool EndsAreMasked(const SampleRow& row) {
  const int64_t num_known = row.history.size() + row.drafts.size();
  return num_known - row.prompt_tokens < row.params->min_tokens;
}

// The row's biases, the mask among them, of the ids of this shard, by rising id. A masked id's own
// bias would change nothing.
std::vector<BiasEntry> Biases(const SampleRow& row, const VocabShard& shard) {
  std::vector<BiasEntry> entries;
  if (EndsAreMasked(row)) {
    for (TokenId id : row.params->end_ids) {
      if (shard.Contains(id)) entries.push_back({id, -std::numeric_limits<float>::infinity()});
    }
  }
  const auto num_masked = static_cast<std::ptrdiff_t>(entries.size());
  const auto by_id = [](const BiasEntry& a, const BiasEntry& b) { return a.id < b.id; };
  for (const auto& [id, bias] : row.params->logit_bias) {
    const bool masked =
        std::binary_search(entries.begin(), entries.begin() + num_masked, BiasEntry{id, 0}, by_id);
    if (!masked && shard.Contains(id)) entries.push_back({id, bias});
  }
  std::inplace_merge(entries.begin(), entries.begin() + num_masked, entries.end(), by_id);
  return entries;
}

void KeepRaw(Backend* backend, absl::Span<const BiasEntry> biases,
             absl::Span<const TokenCount> counts, ProcessorRow& row) {
  std::vector<TokenId> ids;
  for (const BiasEntry& entry : biases) ids.push_back(entry.id);
  for (const TokenCount& count : counts) ids.push_back(count.id);
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  if (ids.empty()) return;
  std::vector<float> logits(row.shard.n);
  backend->CopyToHost(TensorView(row.shard.logits, DType::kF32, {row.shard.n}), logits.data());
  for (TokenId id : ids) row.raw.push_back({logits[IndexOf(row.shard, id)], id});
}

}  // namespace

bool NeedsProcessing(const SampleRow& row) {
  const SamplingParams& params = *row.params;
  return params.has_penalties() || !params.logit_bias.empty() ||
         (!params.end_ids.empty() && EndsAreMasked(row));
}

void ProcessLogits(Backend* backend, const VocabShard& shard, absl::Span<ProcessorRow> rows) {
  TokenCounter counter(shard);
  std::vector<std::vector<BiasEntry>> biases;
  std::vector<std::vector<TokenCount>> counts;
  for (ProcessorRow& row : rows) {
    biases.push_back(Biases(*row.row, shard));
    counts.push_back(row.row->params->has_penalties() ? counter.Count(*row.row)
                                                      : std::vector<TokenCount>());
    if (row.keep_raw) KeepRaw(backend, biases.back(), counts.back(), row);
  }
  std::vector<BiasRow> bias_rows;
  std::vector<PenaltyRow> penalty_rows;
  for (size_t i = 0; i < rows.size(); ++i) {
    const SamplingParams& params = *rows[i].row->params;
    bias_rows.push_back({rows[i].shard, biases[i]});
    penalty_rows.push_back({rows[i].shard, counts[i], params.repetition_penalty,
                            params.presence_penalty, params.frequency_penalty});
  }
  backend->BiasLogits(bias_rows);
  backend->Penalize(penalty_rows);
}

}  // namespace krait
