#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/build_info.h"
#include "common/json.h"
#include "common/json_document.h"
#include "common/status_macros.h"
#include "coordinator/tools/command.h"
#include "coordinator/tools/generate_request.h"
#include "coordinator/tools/generation_result.h"
#include "coordinator/tools/status_text.h"
#include "nlohmann/json.hpp"
#include "tests/coordinator/tools/parse_words.h"

namespace krait {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<v1::GenerateRequest> Request(const std::vector<std::string>& words) {
  RequestOptions options;
  RETURN_IF_ERROR(ParseWords(words, [&](CLI::App& app) { AddRequestOptions(app, options); }));
  return MakeGenerateRequest(options);
}

TEST(GenerateRequestTest, EveryFlagReachesItsField) {
  const auto request = Request({"--prompt=x",
                                "--temperature",
                                "0.5",
                                "--top-k=7",
                                "--top-p=0.25",
                                "--min-p=0.125",
                                "--repetition-penalty=1.5",
                                "--presence-penalty=-1",
                                "--frequency-penalty=2",
                                "--seed=18446744073709551615",
                                "--max-tokens=9",
                                "--min-tokens=2",
                                "--logit-bias=5:-1.5,6:2",
                                "--logit-bias=7:1",
                                "--stop=a",
                                "--stop=b",
                                "--stop-token-id=1,2",
                                "--stop-token-id=3",
                                "--ignore-eos",
                                "--logprobs=4",
                                "--max-draft-tokens=0",
                                "--allow-special-tokens",
                                "--model=m",
                                "--request-id=r",
                                "--n=3"});
  ASSERT_TRUE(request.ok()) << request.status();
  const v1::SamplingParams& sampling = request->sampling();
  EXPECT_EQ(request->prompt(), "x");
  EXPECT_EQ(sampling.temperature(), 0.5f);
  EXPECT_EQ(sampling.top_k(), 7);
  EXPECT_EQ(sampling.top_p(), 0.25f);
  EXPECT_EQ(sampling.min_p(), 0.125f);
  EXPECT_EQ(sampling.repetition_penalty(), 1.5f);
  EXPECT_EQ(sampling.presence_penalty(), -1);
  EXPECT_EQ(sampling.frequency_penalty(), 2);
  EXPECT_EQ(sampling.seed(), 18446744073709551615u);
  EXPECT_EQ(sampling.max_tokens(), 9);
  EXPECT_EQ(sampling.min_tokens(), 2);
  EXPECT_THAT(sampling.logit_bias(),
              testing::UnorderedElementsAre(testing::Pair(5, -1.5f), testing::Pair(6, 2.0f),
                                            testing::Pair(7, 1.0f)));
  EXPECT_THAT(sampling.stop(), ElementsAre("a", "b"));
  EXPECT_THAT(sampling.stop_token_ids(), ElementsAre(1, 2, 3));
  EXPECT_TRUE(sampling.ignore_eos());
  EXPECT_EQ(sampling.logprobs(), 4);
  EXPECT_EQ(sampling.n(), 3);
  EXPECT_TRUE(request->has_max_draft_tokens());
  EXPECT_TRUE(request->allow_special_tokens());
  EXPECT_EQ(request->model(), "m");
  EXPECT_EQ(request->request_id(), "r");
}

TEST(GenerateRequestTest, AbsentFlagsLeaveFieldsUnset) {
  const auto request = Request({"--prompt=x"});
  ASSERT_TRUE(request.ok());
  EXPECT_FALSE(request->sampling().has_temperature());
  EXPECT_FALSE(request->sampling().has_seed());
  EXPECT_FALSE(request->sampling().has_max_tokens());
  EXPECT_FALSE(request->has_max_draft_tokens());
}

TEST(GenerateRequestTest, ChatWrapsThePromptAndTheSystemMessage) {
  const auto request = Request({"--prompt=hi", "--chat", "--system=be brief"});
  ASSERT_TRUE(request.ok());
  ASSERT_EQ(request->chat().messages_size(), 2);
  EXPECT_EQ(request->chat().messages(0).role(), "system");
  EXPECT_EQ(request->chat().messages(1).content(), "hi");
  EXPECT_FALSE(Request({"--prompt=hi", "--system=x"}).ok());
  EXPECT_FALSE(Request({"--prompt=hi", "--prompt-token-ids=1"}).ok());
}

TEST(GenerateRequestTest, BadValuesNameTheFlag) {
  const std::pair<std::vector<std::string>, const char*> cases[] = {
      {{"--prompt=x", "--temperature=warm"}, "--temperature"},
      {{"--prompt=x", "--max-tokens=99999999999"}, "--max-tokens"},
      {{"--prompt=x", "--seed=-1"}, "--seed"},
      {{"--prompt=x", "--temperature=101"}, "--temperature: Value 101 not in range"},
      {{"--prompt=x", "--stop-token-id=1,x"}, "--stop-token-id"},
      {{"--prompt=x", "--logit-bias=1"}, "--logit-bias"},
      {{"--prompt=x", "--max-draft-tokens=16"}, "15"},
      {{"--prompt=x", "--n=0"}, "--n"},
      {{"--prompt=x", "--n=9"}, "--n: Value 9 not in range"},
      {{"--prompt"}, "--prompt"},
      {{"--chat=maybe"}, "chat"},
      {{"stray"}, "stray"}};
  for (const auto& [words, flag] : cases) {
    EXPECT_THAT(std::string(Request(words).status().message()), HasSubstr(flag));
  }
}

TEST(GenerationResultTest, DocumentHasWhatAUserLooksFor) {
  v1::GenerateResponse first, last;
  first.set_request_id("r");
  first.add_token_ids(5);
  first.set_text("a\"");
  last.set_request_id("r");
  for (int id : {6, 7, 8, 9}) last.add_token_ids(id);
  last.set_text("b");
  last.set_finish_reason(v1::FINISH_REASON_LENGTH);
  last.mutable_usage()->set_completion_tokens(5);
  last.mutable_usage()->mutable_speculation()->set_proposed(12);
  last.mutable_usage()->mutable_speculation()->set_accepted(5);
  last.mutable_usage()->mutable_speculation()->set_rounds(4);
  GenerationResult result;
  result.Add(first, absl::Milliseconds(250));
  result.Add(last, absl::Milliseconds(750));
  v1::ListWorkersResponse workers;
  workers.set_coordinator_pid(11);
  v1::Worker& worker = *workers.add_workers();
  worker.set_name("target-0");
  worker.set_role(v1::WORKER_ROLE_TARGET);
  worker.set_pid(12);
  worker.add_ranks()->set_device("cpu:0");
  worker.add_ranks()->set_device("cpu:1");
  workers.add_workers()->set_state(v1::WORKER_STATE_GONE);

  const auto json = ParseJson(result.ToJson(workers));
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(*json->GetString("text"), "a\"b");
  EXPECT_EQ(json->Find("token_ids")->as_array().size(), 5u);
  EXPECT_EQ(*json->GetString("finish_reason"), "length");
  EXPECT_EQ(*json->GetDouble("time_to_first_token_s"), 0.25);
  EXPECT_EQ(*json->GetDouble("tokens_per_second"), 8);  // 4 tokens in the half second after
  EXPECT_EQ(*json->Find("speculation")->GetInt("proposed"), 12);
  EXPECT_EQ(*json->Find("speculation")->GetInt("accepted"), 5);
  EXPECT_EQ(*json->Find("speculation")->GetInt("rounds"), 4);
  const JsonArray& topology = json->Find("topology")->as_array();
  ASSERT_EQ(topology.size(), 2u);
  EXPECT_EQ(*topology[0].GetInt("pid"), 11);
  EXPECT_EQ(*topology[1].GetString("role"), "target");
  EXPECT_EQ(*topology[1].GetInt("ranks"), 2);
  EXPECT_EQ(topology[1].Find("devices")->as_array()[1].as_string(), "cpu:1");
}

TEST(GenerationResultTest, TokensOfOneChunkCountFromTheRequest) {
  GenerationResult result;
  EXPECT_EQ(result.tokens_per_second(), 0);
  v1::GenerateResponse all, end;
  for (int id : {5, 6, 7, 8}) all.add_token_ids(id);
  result.Add(all, absl::Milliseconds(500));
  EXPECT_EQ(result.tokens_per_second(), 8);
  end.set_finish_reason(v1::FINISH_REASON_STOP);
  result.Add(end, absl::Milliseconds(501));
  EXPECT_EQ(result.tokens_per_second(), 8);
}

TEST(GenerationResultTest, SeveralChoicesAreListedByIndexWithTheirTotal) {
  GenerationResult result;
  for (int i = 0; i < 4; ++i) {
    v1::GenerateResponse chunk;
    chunk.set_index(i % 2);
    chunk.add_token_ids(10 + i);
    chunk.set_text(std::string(1, static_cast<char>('a' + i)));
    if (i >= 2) {
      chunk.set_finish_reason(i == 2 ? v1::FINISH_REASON_STOP : v1::FINISH_REASON_LENGTH);
      chunk.mutable_usage()->set_completion_tokens(2);
    }
    if (i == 3) chunk.mutable_total_usage()->set_completion_tokens(4);
    result.Add(chunk, absl::Milliseconds(500 * (i + 1)));
  }
  EXPECT_EQ(result.text(0), "ac");
  EXPECT_EQ(result.text(1), "bd");
  EXPECT_EQ(result.text(2), "");
  const auto json = ParseJson(result.ToJson({}));
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(json->Find("text"), nullptr);
  const JsonArray& choices = json->Find("choices")->as_array();
  ASSERT_EQ(choices.size(), 2u);
  EXPECT_EQ(*choices[1].GetInt("index"), 1);
  EXPECT_EQ(*choices[1].GetString("text"), "bd");
  EXPECT_EQ(choices[0].Find("token_ids")->as_array()[1].as_int(), 12);
  EXPECT_EQ(*choices[0].GetString("finish_reason"), "stop");
  EXPECT_EQ(*choices[1].GetString("finish_reason"), "length");
  EXPECT_EQ(*choices[1].Find("usage")->GetInt("completion_tokens"), 2);
  EXPECT_EQ(*json->Find("usage")->GetInt("completion_tokens"), 4);
  EXPECT_EQ(*json->GetDouble("tokens_per_second"), 2);  // three after the first, in 1.5 s
}

TEST(StatusTextTest, JsonAndTableNameStates) {
  v1::ListWorkersResponse workers;
  v1::Worker& worker = *workers.add_workers();
  worker.set_name("draft-0");
  worker.set_role(v1::WORKER_ROLE_DRAFT);
  worker.set_state(v1::WORKER_STATE_READY);
  const auto json = ParseJson(StatusJson(workers));
  ASSERT_TRUE(json.ok()) << json.status();
  const JsonValue& row = json->Find("workers")->as_array()[0];
  EXPECT_EQ(*row.GetString("state"), "READY");
  EXPECT_EQ(*row.GetString("role"), "DRAFT");
  EXPECT_FALSE(*row.GetBool("draft_connected"));
  EXPECT_THAT(StatusTable(workers), HasSubstr("draft-0          DRAFT   READY"));
}

TEST(JsonDocumentTest, IsWhatAStrictReaderReads) {
  const std::string text = DumpJson({{"a", "\n\xff\""}, {"b", 1.0 / 0.0}, {"c", 0.1}});
  const auto parsed = ParseJson(text);
  ASSERT_TRUE(parsed.ok()) << text << parsed.status();
  EXPECT_EQ(*parsed->GetString("a"), "\n\xef\xbf\xbd\"");
  EXPECT_TRUE(parsed->Find("b")->is_null());
  EXPECT_EQ(*parsed->GetDouble("c"), 0.1);
}

int Krait(std::vector<const char*> words) {
  words.insert(words.begin(), "krait");
  return RunKrait(static_cast<int>(words.size()), words.data());
}

TEST(CommandTest, UsageErrorsAre64AndHelpIs0) {
  for (const char* name : {"up", "generate", "chat", "status", "drain", "bench"}) {
    EXPECT_EQ(Krait({name, "--help"}), 0) << name;
    EXPECT_EQ(Krait({name, "--version"}), 0) << name;
    EXPECT_EQ(Krait({name, "--no-such-flag"}), kExitUsage) << name;
  }
  EXPECT_EQ(Krait({"bench", "serve", "--help"}), 0);
  EXPECT_EQ(Krait({"--help"}), 0);
  EXPECT_EQ(Krait({"--version"}), 0);
  EXPECT_EQ(Krait({}), kExitUsage);
  EXPECT_EQ(Krait({"bench"}), kExitUsage);
  EXPECT_EQ(Krait({"frobnicate"}), kExitUsage);
}

TEST(CommandTest, LoadOptionsAreCheckedAndNameTheirLimit) {
  const auto error_of = [](const std::vector<const char*>& words) {
    std::vector<const char*> all = {"bench", "serve"};
    all.insert(all.end(), words.begin(), words.end());
    testing::internal::CaptureStderr();
    EXPECT_EQ(Krait(all), kExitUsage);
    return testing::internal::GetCapturedStderr();
  };
  EXPECT_THAT(error_of({"--rate=0"}), HasSubstr("--rate"));
  EXPECT_THAT(error_of({"--rate=1", "--concurrency=1"}),
              HasSubstr("--rate excludes --concurrency"));
  EXPECT_THAT(error_of({"--prompt-tokens=5:2"}), HasSubstr("--prompt-tokens: want N or LOW:HIGH"));
  EXPECT_THAT(error_of({"--cancel-rate=1.5"}),
              AllOf(HasSubstr("--cancel-rate"), HasSubstr("not in range")));
  EXPECT_THAT(error_of({"--warmup=2", "--duration=1"}), HasSubstr("--warmup: must be less"));
}

}  // namespace
}  // namespace krait
