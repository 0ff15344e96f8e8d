#pragma once

#include <cstdint>

#include "common/metrics.h"
#include "worker/runner/memory_use.h"

namespace krait {

// Where the memory of a worker's process is, and how much of its pages and slots is in use.
class MemoryMetrics {
 public:
  // `metrics` outlives this.
  explicit MemoryMetrics(Metrics* metrics);

  void SetTotals(const MemoryUse& use);
  void SetDraft(const MemoryUse& use);
  void SetUsed(int64_t pages, int64_t state_slots);

 private:
  prometheus::Gauge& weight_bytes_;
  prometheus::Gauge& kv_usage_;
  prometheus::Gauge& kv_pages_;
  prometheus::Gauge& kv_pages_used_;
  prometheus::Gauge& kv_bytes_;
  prometheus::Gauge& state_slots_;
  prometheus::Gauge& state_slots_used_;
  prometheus::Gauge& state_bytes_;
  prometheus::Gauge& ring_bytes_;
  prometheus::Gauge& fold_interval_;
  prometheus::Gauge& draft_bytes_;
};

}  // namespace krait
