#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>

#include "common/clock.h"
#include "common/grpc_status.h"
#include "common/status_macros.h"
#include "coordinator/tools/cluster_client.h"
#include "coordinator/tools/command.h"
#include "coordinator/tools/generate_request.h"
#include "coordinator/tools/generation_result.h"

namespace krait {
namespace {

constexpr absl::Duration kListTimeout = absl::Seconds(5);

struct GenerateOptions {
  std::string coordinator;
  RequestOptions request;
  std::optional<double> timeout_s;
  bool as_json = false;
};

// They come at the same time: one after the other can be read.
void PrintChoices(const GenerationResult& result, int num_choices) {
  for (int choice = 0; choice < num_choices; ++choice) {
    const std::string text = result.text(choice);
    std::printf("--- choice %d\n", choice);
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fputc('\n', stdout);
  }
}

absl::Status Generate(const GenerateOptions& options) {
  const v1::GenerateRequest request = MakeGenerateRequest(options.request);
  const int num_choices = std::max(1, request.sampling().n());
  ClusterClient client(options.coordinator);
  grpc::ClientContext context;
  if (options.timeout_s.has_value()) {
    context.set_deadline(std::chrono::system_clock::now() +
                         absl::ToChronoMilliseconds(absl::Seconds(*options.timeout_s)));
  }
  const RealClock clock;
  const absl::Duration begin = clock.Now();
  GenerationResult result;
  const auto reader = client.generation().Generate(&context, request);
  for (v1::GenerateResponse chunk; reader->Read(&chunk);) {
    result.Add(chunk, clock.Now() - begin);
    if (options.as_json || num_choices > 1) continue;
    std::fwrite(chunk.text().data(), 1, chunk.text().size(), stdout);
    std::fflush(stdout);
  }
  const absl::Status status = FromGrpcStatus(reader->Finish());
  if (!options.as_json && num_choices == 1) std::fputc('\n', stdout);
  if (!options.as_json && num_choices > 1) PrintChoices(result, num_choices);
  RETURN_IF_ERROR(status);
  if (!options.as_json) return absl::OkStatus();
  ASSIGN_OR_RETURN(const v1::ListWorkersResponse workers, client.ListWorkers(kListTimeout));
  std::printf("%s\n", result.ToJson(workers).c_str());
  return absl::OkStatus();
}

}  // namespace

std::function<int()> DeclareGenerate(CLI::App& app) {
  const auto options = std::make_shared<GenerateOptions>();
  AddCoordinatorOption(app, options->coordinator);
  app.add_flag("--json", options->as_json, "one JSON document at the end instead of streamed text");
  app.add_option("--timeout", options->timeout_s,
                 "give up after so many seconds (default: the coordinator's)")
      ->check(CLI::Range(0.001, 1e6));
  AddRequestOptions(app, options->request);
  return [options] { return EndCommand("generate", Generate(*options)); };
}

}  // namespace krait
