#include "worker/worker_config.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/config_command_line.h"
#include "common/field_error.h"

namespace krait {
namespace {

absl::StatusOr<WorkerOptions> Make(std::vector<std::string> arguments) {
  WorkerConfig config;
  arguments.push_back("--model_path=/models/Tiny-1B.gguf");
  EXPECT_TRUE(ParseConfigCommandLine(arguments, config).ok());
  return MakeWorkerOptions(config, /*num_cores=*/4);
}

TEST(WorkerConfig, DefaultsAreThoseOfTheSchema) {
  const auto options = Make({});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->model_name, "Tiny-1B");
  EXPECT_EQ(options->grpc.listen, "127.0.0.1:0");
  EXPECT_EQ(options->grpc.max_request_kib, 4096);
  EXPECT_EQ(options->threads, 4);
  EXPECT_EQ(options->tensor_parallel_size, 1);
  EXPECT_EQ(options->weight_dtype, DType::kBF16);
  EXPECT_EQ(options->page_size, 16);
  EXPECT_EQ(options->kv_cache_mib, 1024);
  EXPECT_EQ(options->state_slots, 64);
  EXPECT_EQ(Make({"--max_running=5"})->state_slots, 5) << "as many as sequences";
  EXPECT_EQ(options->max_draft_tokens, 4);
  EXPECT_EQ(options->step_deadline, absl::Seconds(60));
  EXPECT_EQ(options->reserved_output_tokens, 1024);
  EXPECT_EQ(options->slow_reader_timeout, absl::Seconds(30));
  EXPECT_EQ(options->proposal_deadline, absl::ZeroDuration());
  EXPECT_EQ(options->draft_source, DraftSource::kNone);
}

TEST(WorkerConfig, ErrorsNameFieldValueAndLimit) {
  const struct {
    std::vector<std::string> arguments;
    const char* field;
  } cases[] = {
      {{"--page_size=24"}, "page_size"},
      {{"--page_size=512"}, "page_size"},
      {{"--threads=1", "--tensor_parallel_size=2"}, "threads"},
      {{"--processes=2"}, "processes"},
      {{"--processes=2", "--tensor_parallel_size=2", "--process_index=2"}, "process_index"},
      {{"--processes=2", "--tensor_parallel_size=2"}, "group_address"},
      {{"--processes=2", "--tensor_parallel_size=2", "--group_address=127.0.0.1:0"},
       "group_address"},
      {{"--processes=2", "--tensor_parallel_size=2", "--group_address=10.0.0.1:7000"},
       "group_address"},
      {{"--device=tpu"}, "device"},
      {{"--device=cuda:x"}, "device"},
      {{"--device=cuda:4096"}, "device"},
      {{"--comm=NCCL", "--tensor_parallel_size=2"}, "comm"},
      {{"--comm=GLOO"}, "comm"},
      {{"--comm=GLOO", "--device=cuda", "--tensor_parallel_size=2", "--processes=2",
        "--group_address=127.0.0.1:7000"},
       "comm"},
      {{"--comm=IN_PROCESS", "--tensor_parallel_size=2", "--processes=2",
        "--group_address=127.0.0.1:7000"},
       "comm"},
      {{"--max_running=300"}, "max_num_batched_tokens"},
      {{"--state_slots=0"}, "state_slots"},
      {{"--max_running=8", "--state_slots=9"}, "state_slots"},
      {{"--max_draft_tokens=16"}, "max_draft_tokens"},
      {{"--step_deadline_ms=1"}, "step_deadline_ms"},
      {{"--reserved_output_tokens=0"}, "reserved_output_tokens"},
      {{"--reserved_output_tokens=1048577"}, "reserved_output_tokens"},
      {{"--slow_reader_timeout_ms=0"}, "slow_reader_timeout_ms"},
      {{"--proposal_deadline_ms=nan"}, "proposal_deadline_ms"},
      {{"--draft_address=a"}, "draft_address"},
      {{"--draft_address=a:1", "--ngram=true"}, "draft_address"},
      {{"--role=DRAFT", "--ngram=true"}, "role"},
      {{"--coordinators=a:1,b"}, "coordinators"},
      {{"--listen=here"}, "listen"},
      {{"--name=a b"}, "name"},
      {{"--limits.max_request_kib=0"}, "limits.max_request_kib"},
  };
  for (const auto& bad : cases) {
    const auto options = Make(bad.arguments);
    EXPECT_EQ(options.status().code(), absl::StatusCode::kInvalidArgument) << bad.field;
    EXPECT_EQ(ErrorField(options.status()), bad.field) << options.status();
  }
  EXPECT_EQ(Make({"--page_size=24"}).status().message(),
            "page_size: must be a power of two, got 24");
}

TEST(WorkerConfig, RopeScalingFollowsTheNamesUnlessToldOtherwise) {
  EXPECT_EQ(Make({})->rope_scaling, RopeScalingRule::kByNames);
  EXPECT_EQ(Make({"--rope_scaling=APPLY"})->rope_scaling, RopeScalingRule::kApply);
  EXPECT_EQ(Make({"--rope_scaling=IGNORE"})->rope_scaling, RopeScalingRule::kIgnore);
}

TEST(WorkerConfig, LimitsOfTheEngineAreTaken) {
  const auto options = Make({"--reserved_output_tokens=1048576", "--slow_reader_timeout_ms=1"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->reserved_output_tokens, 1 << 20);
  EXPECT_EQ(options->slow_reader_timeout, absl::Milliseconds(1));
}

TEST(WorkerConfig, EveryNumberHasARangeAndItsErrorNamesTheField) {
  const struct {
    const char* field;
    int64_t low;
    int64_t high;
    std::vector<std::string> with = {};  // what another check needs
  } ranges[] = {
      {"tensor_parallel_size", 1, 64, {"--threads=64"}},
      {"processes", 1, 64, {"--tensor_parallel_size=64", "--group_address=127.0.0.1:7000"}},
      {"process_index",
       0,
       63,
       {"--processes=64", "--tensor_parallel_size=64", "--group_address=127.0.0.1:7000"}},
      {"threads", 1, 1024},
      {"page_size", 8, 256},
      {"kv_cache_mib", 1, 1 << 22},
      {"max_running", 1, 4096, {"--max_num_batched_tokens=65536"}},
      {"max_waiting", 0, 65'536},
      {"max_num_batched_tokens", 1, 65'536, {"--max_running=1"}},
      {"max_context_tokens", 2, 1 << 30},
      {"state_slots", 1, 64},
      {"max_draft_tokens", 0, 15},
      {"reserved_output_tokens", 1, 1 << 20},
      {"step_deadline_ms", 100, 3'600'000},
      {"slow_reader_timeout_ms", 1, 86'400'000},
      {"drain_timeout_ms", 0, 86'400'000},
      {"log_verbosity", 0, 9},
      {"limits.max_request_kib", 1, 65'536},
      {"limits.max_concurrent_streams", 1, 65'536},
  };
  for (const auto& [field, low, high, with] : ranges) {
    const auto set = [&, field = field, &with = with](int64_t value) {
      std::vector<std::string> arguments = with;
      arguments.push_back(absl::StrCat("--", field, "=", value));
      return Make(arguments).status();
    };
    for (int64_t value : {low, high}) EXPECT_TRUE(set(value).ok()) << set(value);
    for (int64_t value : {low - 1, high + 1}) {
      EXPECT_EQ(set(value).code(), absl::StatusCode::kInvalidArgument) << field << " " << value;
      EXPECT_EQ(ErrorField(set(value)), field) << field << " " << value;
    }
  }
}

TEST(WorkerConfig, AModelPathIsNeeded) {
  EXPECT_EQ(ErrorField(MakeWorkerOptions(WorkerConfig(), 4).status()), "model_path");
}

TEST(WorkerConfig, EachDraftSourceIsRecognized) {
  EXPECT_EQ(Make({"--draft_address=a:1"})->draft_source, DraftSource::kRemote);
  EXPECT_EQ(Make({"--draft-model-path", "/d"})->draft_source, DraftSource::kModel);
  EXPECT_EQ(Make({"--ngram=true"})->draft_source, DraftSource::kNgram);
}

TEST(WorkerConfig, AFolderNamesItsModel) {
  WorkerConfig config;
  config.set_model_path("/models/Tiny-1B/");
  EXPECT_EQ(MakeWorkerOptions(config, 1)->model_name, "Tiny-1B");
}

TEST(ConfigCommandLine, FlagsOverrideFilesAndErrorsNameTheFlag) {
  WorkerConfig config;
  EXPECT_TRUE(ParseConfigCommandLine({"--help"}, config)->help);
  EXPECT_TRUE(ParseConfigCommandLine({"--version"}, config)->version);
  EXPECT_FALSE(ParseConfigCommandLine({"stray"}, config).ok());
  EXPECT_FALSE(ParseConfigCommandLine({"--page_size"}, config).ok());
  EXPECT_EQ(ErrorField(ParseConfigCommandLine({"--page-sice=3"}, config).status()), "page_sice");
}

}  // namespace
}  // namespace krait
