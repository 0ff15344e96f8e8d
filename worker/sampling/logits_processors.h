#pragma once

#include <vector>

#include "absl/types/span.h"
#include "kernels/backend.h"
#include "worker/sampling/shard_sampler.h"

namespace krait {

// One row whose parameters ask for a processor.
struct ProcessorRow {
  const SampleRow* row = nullptr;
  LogitsShard shard;
  bool keep_raw = false;
  // Out, if keep_raw: what the changed logits were before, by rising id.
  std::vector<Candidate> raw;
};

// True if ProcessLogits would change the row's logits, on whatever shard.
bool NeedsProcessing(const SampleRow& row);

// What comes before temperature, in place: logit_bias and the min_tokens mask, then the penalties.
// A masked logit becomes -infinity, which no later processor changes and no draw picks. Every part
// looks at history + drafts of its own row, so a row of a verification is processed exactly as
// plain decoding would process it.
void ProcessLogits(Backend* backend, const VocabShard& shard, absl::Span<ProcessorRow> rows);

}  // namespace krait
