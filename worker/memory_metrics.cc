#include "worker/memory_metrics.h"

namespace krait {

MemoryMetrics::MemoryMetrics(Metrics* metrics)
    : weight_bytes_(metrics->AddGauge("krait_weight_bytes",
                                      "Memory of the weights of this process's ranks, bytes.")),
      kv_usage_(metrics->AddGauge("krait_kv_cache_usage_perc",
                                  "KV pages in use, as a fraction from 0 to 1.")),
      kv_pages_(metrics->AddGauge("krait_kv_pages", "KV pages there are.")),
      kv_pages_used_(metrics->AddGauge("krait_kv_pages_used", "KV pages in use.")),
      kv_bytes_(metrics->AddGauge("krait_kv_cache_bytes",
                                  "Memory of the KV pages of this process's ranks, bytes.")),
      state_slots_(metrics->AddGauge("krait_state_slots",
                                     "Recurrent states there is room for; 0 for a model without.")),
      state_slots_used_(
          metrics->AddGauge("krait_state_slots_used", "Recurrent states held by sequences.")),
      state_bytes_(metrics->AddGauge("krait_state_bytes",
                                     "Memory of the states of this process's ranks, bytes.")),
      ring_bytes_(metrics->AddGauge("krait_state_ring_bytes",
                                    "Memory of the rings of inputs beside the states, bytes.")),
      fold_interval_(metrics->AddGauge(
          "krait_state_checkpoint_interval_tokens",
          "Tokens between two writes of a state; 0: every step, or no such layer.")),
      draft_bytes_(metrics->AddGauge(
          "krait_in_process_draft_bytes",
          "Memory of a draft in the target's process, with its pages and states, bytes.")) {}

void MemoryMetrics::SetTotals(const MemoryUse& use) {
  weight_bytes_.Set(static_cast<double>(use.weight_bytes));
  kv_pages_.Set(use.num_pages);
  kv_bytes_.Set(static_cast<double>(use.kv_bytes));
  state_slots_.Set(use.num_state_slots);
  state_bytes_.Set(static_cast<double>(use.state_bytes));
  ring_bytes_.Set(static_cast<double>(use.ring_bytes));
  fold_interval_.Set(use.fold_interval);
}

void MemoryMetrics::SetDraft(const MemoryUse& use) {
  draft_bytes_.Set(static_cast<double>(use.total_bytes()));
}

void MemoryMetrics::SetUsed(int64_t pages, int64_t state_slots) {
  const double total = kv_pages_.Value();
  kv_pages_used_.Set(static_cast<double>(pages));
  kv_usage_.Set(total == 0 ? 0 : static_cast<double>(pages) / total);
  state_slots_used_.Set(static_cast<double>(state_slots));
}

}  // namespace krait
