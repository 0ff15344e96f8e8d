#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdio>

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

std::vector<FlagSpec> Flags() {
  std::vector<FlagSpec> flags = {
      kCoordinatorFlag,
      kAddressFlag,
      {"json", nullptr, "one JSON document at the end instead of streamed text"},
      {"timeout", "SECONDS", "give up after this long (default: the coordinator's)"}};
  flags.insert(flags.end(), RequestFlags().begin(), RequestFlags().end());
  flags.push_back(kHelpFlag);
  return flags;
}

absl::Status Generate(const Arguments& arguments) {
  ASSIGN_OR_RETURN(const v1::GenerateRequest request, MakeGenerateRequest(arguments));
  ASSIGN_OR_RETURN(const auto timeout, arguments.GetDouble("timeout"));
  const bool as_json = arguments.Has("json");
  ClusterClient client(CoordinatorAddress(arguments));
  grpc::ClientContext context;
  if (timeout.has_value()) {
    context.set_deadline(std::chrono::system_clock::now() +
                         absl::ToChronoMilliseconds(absl::Seconds(*timeout)));
  }
  const RealClock clock;
  const absl::Duration begin = clock.Now();
  GenerationResult result;
  const auto reader = client.generation().Generate(&context, request);
  for (v1::GenerateResponse chunk; reader->Read(&chunk);) {
    result.Add(chunk, clock.Now() - begin);
    if (as_json) continue;
    std::fwrite(chunk.text().data(), 1, chunk.text().size(), stdout);
    std::fflush(stdout);
  }
  const absl::Status status = FromGrpcStatus(reader->Finish());
  if (!as_json) std::fputc('\n', stdout);
  RETURN_IF_ERROR(status);
  if (!as_json) return absl::OkStatus();
  ASSIGN_OR_RETURN(const v1::ListWorkersResponse workers, client.ListWorkers(kListTimeout));
  std::printf("%s\n", result.ToJson(workers).c_str());
  return absl::OkStatus();
}

}  // namespace

int RunGenerate(const CommandWords& words) {
  const std::vector<FlagSpec> flags = Flags();
  const auto arguments = Arguments::Parse(words, flags);
  if (!arguments.ok()) return FailCommand("generate", arguments.status());
  if (arguments->Has("help")) {
    std::fputs(FormatHelp("generate", "Streams one generation to standard output.", flags).c_str(),
               stdout);
    return 0;
  }
  const absl::Status status = Generate(*arguments);
  return status.ok() ? 0 : FailCommand("generate", status);
}

}  // namespace krait
