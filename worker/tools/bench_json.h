#pragma once

#include <string>

#include "worker/tools/bench_report.h"

namespace krait {

// The report as one JSON document. Scripts read it: fields are added, never renamed.
std::string BenchJson(const BenchReport& report);

}  // namespace krait
