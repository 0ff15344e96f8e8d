#include "common/json_document.h"

#include <nlohmann/json.hpp>

namespace krait {

std::string DumpJson(const nlohmann::ordered_json& document) {
  return document.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace krait
