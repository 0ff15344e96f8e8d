// The JSON that we read: documents of any kind, and the configuration files of both binaries.

#include "common/config_loader.h"
#include "common/json.h"
#include "common/logging.h"
#include "coordinator/coordinator_config.h"
#include "tests/fuzz/fuzz_target.h"
#include "worker/worker_config.h"

namespace krait {
namespace {

constexpr int kMaxDepth = 32;

int Depth(const JsonValue& value) {
  int deepest = 0;
  if (value.is_array()) {
    for (const JsonValue& element : value.as_array()) deepest = std::max(deepest, Depth(element));
  } else if (value.is_object()) {
    for (const auto& [key, element] : value.as_object()) {
      CHECK(value.Find(key) != nullptr);
      deepest = std::max(deepest, Depth(element));
    }
  }
  return deepest + 1;
}

void CheckQuoting(std::string_view text) {
  const auto quoted = ParseJson(QuoteJson(text));
  CHECK_OK(quoted.status());
  CHECK(quoted->is_string());
}

}  // namespace

void FuzzOne(std::string_view input) {
  const auto document = ParseJson(input, {.max_bytes = 1 << 20, .max_depth = kMaxDepth});
  if (document.ok()) CHECK_LE(Depth(*document), kMaxDepth + 1);
  CheckQuoting(input);
  CoordinatorConfig coordinator;
  if (ParseConfig(input, "fuzz", coordinator).ok()) (void)MakeCoordinatorOptions(coordinator);
  WorkerConfig worker;
  if (ParseConfig(input, "fuzz", worker).ok()) (void)MakeWorkerOptions(worker, 2);
}

std::vector<std::string> FuzzSeeds() {
  return {
      R"({"listen": "127.0.0.1:0", "model_path": "m.gguf", "routing_policy": "round_robin",)"
      R"( "max_requests": 8, "token_budget": "100", "limits": {"max_request_kib": 64}})",
      R"({"role": "TARGET", "model_path": "m", "coordinators": ["127.0.0.1:1"], "ngram": true,)"
      R"( "weight_dtype": "F32", "page_size": 16, "proposal_deadline_ms": 2.5})",
      R"({"a": [1, -2, 3.5e10, true, false, null, "\u00e9\ud83d\ude00\n"], "b": {"c": {}}})",
      R"([18446744073709551615, -9223372036854775808, 1e999, -0, 0.1])",
      std::string(40, '[') + std::string(40, ']'),
      R"({"a": 1, "a": 2})",
      "\"\xff\xfe\"",
  };
}

}  // namespace krait
