#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "common/build_info.h"
#include "worker/tools/engine_tool.h"
#include "worker/tools/generate_options.h"
#include "worker/tools/prompt_ids_file.h"

namespace krait {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The message of a usage error; "" if there is none.
std::string Parse(std::vector<std::string> words, GenerateOptions& options) {
  CLI::App app;
  SetUpApp(app, "test");
  AddGenerateOptions(app, options);
  std::reverse(words.begin(), words.end());  // CLI11 takes them from the back
  try {
    app.parse(words);
  } catch (const CLI::ParseError& error) {
    return error.what();
  }
  return "";
}

TEST(EngineOptionsTest, EveryOptionReachesItsField) {
  GenerateOptions options;
  EXPECT_EQ(Parse({"--model=m",
                   "--tp=2",
                   "--threads=3",
                   "--weight-dtype=f32",
                   "--max-num-batched-tokens=9",
                   "--draft=ngram",
                   "--draft-tokens=5",
                   "--prompt-ids=1,2,3",
                   "--max-tokens=7",
                   "--temperature=0.5",
                   "--top-k=4",
                   "--top-p=0.5",
                   "--min-p=0.25",
                   "--repetition-penalty=2",
                   "--presence-penalty=-1",
                   "--frequency-penalty=1",
                   "--seed=18446744073709551615",
                   "--logprobs=2",
                   "--max-running=6",
                   "--ignore-eos",
                   "--json"},
                  options),
            "");
  const EngineConfig& config = options.flags.config;
  EXPECT_EQ(config.group.model_path, "m");
  EXPECT_EQ(config.group.tensor_parallel_size, 2);
  EXPECT_EQ(config.group.num_threads, 3);
  EXPECT_EQ(config.group.runner.weight_dtype, DType::kF32);
  EXPECT_EQ(config.max_num_batched_tokens, 9);
  EXPECT_EQ(options.flags.draft, "ngram");
  EXPECT_TRUE(config.fixed_draft_tokens);
  EXPECT_EQ(config.max_draft_tokens, 5);
  EXPECT_THAT(options.prompt_ids, ElementsAre(1, 2, 3));
  EXPECT_EQ(options.sampling.temperature, 0.5f);
  EXPECT_EQ(options.sampling.top_k, 4);
  EXPECT_EQ(options.sampling.top_p, 0.5f);
  EXPECT_EQ(options.sampling.min_p, 0.25f);
  EXPECT_EQ(options.sampling.repetition_penalty, 2);
  EXPECT_EQ(options.sampling.presence_penalty, -1);
  EXPECT_EQ(options.sampling.frequency_penalty, 1);
  EXPECT_EQ(options.sampling.seed, 18446744073709551615u);
  EXPECT_EQ(options.sampling.num_logprobs, 2);
  EXPECT_EQ(options.max_tokens, 7);
  EXPECT_EQ(options.max_running, 6);
  EXPECT_TRUE(options.ignore_eos && options.as_json);
}

TEST(EngineOptionsTest, DefaultsAreGreedyAndAdaptive) {
  GenerateOptions options;
  ASSERT_EQ(Parse({"--model=m", "--prompt-ids=1"}, options), "");
  EXPECT_TRUE(options.sampling.greedy());
  EXPECT_LT(options.sampling.num_logprobs, 0);
  EXPECT_FALSE(options.flags.config.fixed_draft_tokens);
  EXPECT_EQ(options.flags.config.max_draft_tokens, 8);
  EXPECT_EQ(options.flags.config.group.runner.weight_dtype, DType::kBF16);
  EXPECT_EQ(options.flags.draft, "none");
}

TEST(EngineOptionsTest, UsageErrorsNameOptionAndLimit) {
  GenerateOptions options;
  EXPECT_THAT(Parse({"--prompt-ids=1"}, options), HasSubstr("--model is required"));
  EXPECT_THAT(Parse({"--model=m"}, options), HasSubstr("--prompt-ids"));
  const auto with = [&](const std::string& word) {
    return Parse({"--model=m", "--prompt-ids=1", word}, options);
  };
  EXPECT_THAT(with("--tp=0"), AllOf(HasSubstr("--tp"), HasSubstr("1 to 64")));
  EXPECT_THAT(with("--draft-tokens=17"), AllOf(HasSubstr("--draft-tokens"), HasSubstr("16")));
  EXPECT_THAT(with("--weight-dtype=f8"), AllOf(HasSubstr("--weight-dtype"), HasSubstr("bf16")));
  EXPECT_THAT(with("--prompt-ids-file=x"), HasSubstr("--prompt-ids-file"));
  EXPECT_THAT(with("--seed=-1"), AllOf(HasSubstr("--seed"), HasSubstr("2^64")));
  EXPECT_THAT(with("--frob"), HasSubstr("--frob"));
}

TEST(EngineOptionsTest, HelpIsEverywhere) {
  for (const std::vector<const char*>& words : {std::vector<const char*>{"--help"},
                                                {"--version"},
                                                {"inspect", "--help"},
                                                {"convert", "--help"},
                                                {"generate", "--help"},
                                                {"bench", "--help"},
                                                {"bench", "decode", "--help"},
                                                {"bench", "decode", "--version"}}) {
    std::vector<const char*> argv = {"krait-engine"};
    argv.insert(argv.end(), words.begin(), words.end());
    EXPECT_EQ(RunEngineTool(static_cast<int>(argv.size()), argv.data()), 0) << words.back();
  }
  const char* const nothing[] = {"krait-engine"};
  EXPECT_EQ(RunEngineTool(1, nothing), kExitUsage);
}

TEST(PromptIdsFileTest, HoldsOneListOrSeveral) {
  const std::string path = testing::TempDir() + "/ids.json";
  std::ofstream(path) << "[1, 2]";
  EXPECT_THAT(*ReadPromptIdsFile(path), ElementsAre(ElementsAre(1, 2)));
  std::ofstream(path) << "[[1], [2, 99999999999]]";
  EXPECT_THAT(*ReadPromptIdsFile(path), ElementsAre(ElementsAre(1), ElementsAre(2, 2147483647)));
  for (const char* bad : {"[]", "{}", "[[1], 2]", "[\"x\"]"}) {
    std::ofstream(path) << bad;
    EXPECT_THAT(std::string(ReadPromptIdsFile(path).status().message()),
                HasSubstr("--prompt-ids-file"))
        << bad;
  }
}

}  // namespace
}  // namespace krait
