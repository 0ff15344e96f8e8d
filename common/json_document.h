#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace krait {

// The document on one line. Invalid UTF-8 becomes U+FFFD, a number that is not finite null: what a
// tool prints is always JSON.
std::string DumpJson(const nlohmann::ordered_json& document);

}  // namespace krait
