#pragma once

#include <google/protobuf/message.h>

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace krait {

// Reads a JSON file into `config` (proto/krait/config.proto is the schema; names as written there).
// INVALID_ARGUMENT names the file and the unknown or ill-typed field; NOT_FOUND if it cannot be
// read. Files above 1 MiB are refused. On error `config` is unspecified.
absl::Status LoadConfigFile(const std::string& path, google::protobuf::Message& config);

// The same for a text already in memory; `source` stands in messages.
absl::Status ParseConfig(std::string_view json, std::string_view source,
                         google::protobuf::Message& config);

// Sets one field from "field=value", e.g. "tensor_parallel_size=2", "limits.max_request_kib=64",
// "weight_dtype=F32", "ngram=true". A repeated field takes "a,b,c" and is replaced as a whole; an
// empty list clears it. INVALID_ARGUMENT names the field, the value, and what was expected.
absl::Status ApplyOverride(std::string_view assignment, google::protobuf::Message& config);

}  // namespace krait
