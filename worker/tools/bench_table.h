#pragma once

#include <string>

#include "worker/tools/bench_report.h"

namespace krait {

// The report for people.
std::string BenchTable(const BenchReport& report);

}  // namespace krait
