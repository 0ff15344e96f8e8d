#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "coordinator/tools/load_options.h"
#include "coordinator/tools/load_recorder.h"

namespace krait {

// What a load measured, as the document of `krait bench serve --json`. Latencies are in ms, rates
// per second, both over the measured window.
nlohmann::ordered_json LoadReport(const LoadOptions& options, const LoadRecorder& recorder);

// The same document as a table for people.
std::string LoadTable(const nlohmann::ordered_json& report);

}  // namespace krait
