#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "krait/v1/generation.pb.h"

namespace krait {

// Declares --temperature and its like: one option for every sampling field, the request's model and
// its draft length. Parsing writes into `request`, which must outlive `app`.
void AddSamplingOptions(CLI::App& app, v1::GenerateRequest& request);

// What `krait generate` is to send. AddRequestOptions declares the options that fill it, those of
// AddSamplingOptions among them.
struct RequestOptions {
  v1::GenerateRequest request;
  std::optional<std::string> prompt;  // absent: standard input
  std::optional<std::string> system;
  std::vector<int32_t> prompt_token_ids;
  bool chat = false;
};
void AddRequestOptions(CLI::App& app, RequestOptions& options);

// The request with its input; reads standard input if there is no prompt.
v1::GenerateRequest MakeGenerateRequest(const RequestOptions& options);

// Appends one message.
void AddMessage(const char* role, const std::string& content, v1::Chat& chat);

}  // namespace krait
