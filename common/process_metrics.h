#pragma once

#include <prometheus/metric_family.h>

#include <vector>

namespace krait {

// The process_* family under the names that every Prometheus client library uses, read from /proc
// now: CPU seconds, resident and virtual memory, open and allowed file descriptors, threads, start
// time. What cannot be read is left out. Thread-safe.
std::vector<prometheus::MetricFamily> CollectProcessMetrics();

// When this process started, seconds since the epoch; 0 if /proc cannot be read.
double ProcessStartTime();

}  // namespace krait
