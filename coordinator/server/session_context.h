#pragma once

#include "common/clock.h"
#include "coordinator/admission/admission_controller.h"
#include "coordinator/admission/retry_budget.h"
#include "coordinator/admission/wait_estimator.h"
#include "coordinator/cluster/worker_pool.h"
#include "coordinator/coordinator_config.h"
#include "coordinator/coordinator_metrics.h"
#include "coordinator/routing/router.h"
#include "coordinator/server/text_model.h"

namespace krait {

// What every session works with; borrowed, thread-safe, outlives all sessions.
struct SessionContext {
  const Clock& clock;
  const CoordinatorOptions& options;
  const TextModel& model;
  WorkerRegistry& registry;
  AdmissionController& admission;
  RetryBudget& retry_budget;
  WaitEstimator& wait_estimator;
  Router& router;
  WorkerPool& pool;
  CoordinatorMetrics& metrics;
};

}  // namespace krait
