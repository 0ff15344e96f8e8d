#pragma once

#include <string>

#include "krait/v1/cluster.pb.h"

namespace krait {

// One row a worker, for people.
std::string StatusTable(const v1::ListWorkersResponse& workers);

// The same and more as one JSON document on one line: {coordinator_pid, coordinator_build_id,
// workers: [{name, role, state, ...}]}.
std::string StatusJson(const v1::ListWorkersResponse& workers);

}  // namespace krait
