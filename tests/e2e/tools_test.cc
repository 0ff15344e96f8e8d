// The `krait` tool against a real cluster.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/wait.h>

#include "absl/strings/str_cat.h"
#include "common/build_info.h"
#include "common/json.h"
#include "tests/e2e/cluster_harness.h"
#include "tests/e2e/models.h"
#include "tests/e2e/requests.h"

namespace krait {
namespace {

struct ToolRun {
  int exit_code = -1;
  std::string output;  // standard output and error
};

class ToolsTest : public testing::Test {
 protected:
  ToolsTest() : cluster_(TargetModel()) {
    cluster_.AddTarget("one");
    cluster_.AddTarget("two");
    cluster_.Start();
  }

  // `krait COMMAND --coordinator ...` in a shell, with `input` before a pipe.
  ToolRun Krait(const std::string& command, const std::string& input = "") {
    const std::string line =
        absl::StrCat("printf '", input, "' | ", BinaryPath("krait"), " ", command,
                     " --coordinator ", cluster_.coordinator_config().listen(), " 2>&1");
    ToolRun run;
    FILE* pipe = popen(line.c_str(), "r");
    char buffer[4096];
    for (size_t size; (size = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) {
      run.output.append(buffer, size);
    }
    run.exit_code = WEXITSTATUS(pclose(pipe));
    return run;
  }

  Cluster cluster_;
};

TEST_F(ToolsTest, BenchServeMeasuresBothLoops) {
  for (const char* arrivals : {"--concurrency 4", "--rate 1000"}) {
    const ToolRun run =
        Krait(absl::StrCat("bench serve --json --requests 20 --output-tokens 5:9 "
                           "--prompt-tokens 3:6 ",
                           arrivals));
    ASSERT_EQ(run.exit_code, 0) << run.output;
    const auto json = ParseJson(run.output);
    ASSERT_TRUE(json.ok()) << run.output;
    EXPECT_EQ(*json->GetInt("completed"), 20);
    EXPECT_EQ(*json->GetInt("failed"), 0);
    EXPECT_GE(*json->GetInt("output_tokens"), 100);
    EXPECT_EQ(*json->Find("time_to_first_token_ms")->GetInt("count"), 20);
  }
}

TEST_F(ToolsTest, ChatAnswersEveryLineOfAPipe) {
  const ToolRun run = Krait("chat --max-tokens 4 --temperature 0", "hello\\n/reset\\nhello\\n");
  ASSERT_EQ(run.exit_code, 0) << run.output;
  const size_t middle = run.output.size() / 2;
  EXPECT_EQ(run.output.substr(0, middle), run.output.substr(middle));  // the same twice
}

TEST_F(ToolsTest, DrainTakesOneWorkerOut) {
  EXPECT_EQ(Krait("drain nosuch").exit_code, kExitUsage);
  ASSERT_EQ(Krait("drain one").exit_code, 0);
  EXPECT_TRUE(cluster_.WaitFor(
      [](const v1::ListWorkersResponse& workers) {
        for (const v1::Worker& worker : workers.workers()) {
          if (worker.name() == "one") return worker.state() != v1::WORKER_STATE_READY;
        }
        return true;
      },
      absl::Seconds(20)));
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(cluster_.Generate(GreedyRequest("hello", 3)).status.ok());
  }
}

}  // namespace
}  // namespace krait
