// The same requests at 1, 2 and 3 ranks, in one process and in several, through the whole cluster.

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/e2e/cluster_harness.h"
#include "tests/e2e/models.h"
#include "tests/e2e/requests.h"

namespace krait {
namespace {

std::vector<GenerateOutcome> RunAll(int tensor_parallel_size, int processes) {
  Cluster cluster(TargetModel());
  WorkerConfig& target = processes == 1
                             ? cluster.AddTarget("target", tensor_parallel_size)
                             : cluster.AddGroup("target", tensor_parallel_size, processes);
  target.set_ngram(true);
  cluster.Start();
  std::vector<GenerateOutcome> outcomes;
  for (int i = 0; i < 4; ++i) {
    const std::string prompt = absl::StrCat("prompt ", i, std::string(100 * i, 'x'));
    outcomes.push_back(cluster.Generate(GreedyRequest(prompt, 50)));
    outcomes.push_back(cluster.Generate(SeededRequest(prompt, 50, 11 * i)));
  }
  return outcomes;
}

TEST(TensorParallelTest, EveryDegreeGivesTheSameTokensAndLogprobs) {
  const std::vector<GenerateOutcome> one = RunAll(1, 1);
  for (const auto& [degree, processes] :
       std::vector<std::pair<int, int>>{{2, 1}, {3, 1}, {2, 2}, {3, 2}, {3, 3}}) {
    const std::vector<GenerateOutcome> many = RunAll(degree, processes);
    for (size_t i = 0; i < one.size(); ++i) {
      ASSERT_TRUE(one[i].status.ok()) << one[i].status.error_message();
      EXPECT_EQ(one[i].token_ids, many[i].token_ids)
          << "degree " << degree << " processes " << processes << " request " << i;
      EXPECT_EQ(one[i].logprobs, many[i].logprobs)
          << "degree " << degree << " processes " << processes << " request " << i;
    }
  }
}

}  // namespace
}  // namespace krait
