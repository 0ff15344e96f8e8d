// The plain twin of states that are never copied: a snapshot after every token, and the accepted
// one copied back. It agrees with the ops, and shows what they save.

#include <cmath>

#include "tests/kernels/recurrent_test_ops.h"

namespace krait::kernels {
namespace {

constexpr uint32_t kSeed = 9;

// One sequence by `op`'s serial recurrence.
template <typename AnyOp>
class SnapshotTwin {
 public:
  explicit SnapshotTwin(const AnyOp& op) : op_(op) {}

  // The outputs of the tokens that the step keeps.
  std::vector<float> Step(const StepShape& step, uint32_t seed) {
    const int kept = step.num_final + step.num_accepted;
    std::vector<std::vector<float>> snapshots;
    std::vector<float> state = state_, outputs;
    for (int i = 0; i < step.num_final + step.num_drafts; ++i) {
      const std::vector<float> out = op_.Serial(
          TrueInput(op_.input_width(), i < kept ? seed : seed + 77777u, committed_ + i), state);
      if (i < kept) outputs.insert(outputs.end(), out.begin(), out.end());
      snapshots.push_back(state);
      ++copies_;
    }
    state_ = snapshots[kept - 1];
    ++copies_;
    committed_ += kept;
    return outputs;
  }
  int64_t copies() const { return copies_; }

 private:
  const AnyOp& op_;
  std::vector<float> state_;
  int committed_ = 0;
  int64_t copies_ = 0;
};

template <typename AnyOp>
std::vector<float> RunTwin(const AnyOp& op, const std::vector<StepShape>& schedule,
                           int64_t* copies) {
  SnapshotTwin<AnyOp> twin(op);
  std::vector<float> outputs;
  for (const StepShape& step : schedule) {
    const std::vector<float> kept = twin.Step(step, kSeed);
    outputs.insert(outputs.end(), kept.begin(), kept.end());
  }
  *copies = twin.copies();
  return outputs;
}

TEST(SnapshotTwinTest, Mamba2AgreesClosely) {
  const auto backend = MakeBackend(PlainVariant());
  for (uint32_t i = 0; i < 20; ++i) {
    std::mt19937 generator(i);
    StateOp op;
    HarnessSequence sequence{.slot = 1};
    const std::vector<StepShape> schedule = RandomSchedule(150, 8, generator);
    int64_t copies = 0;
    const std::vector<float> expected = RunTwin(op, schedule, &copies);
    const std::vector<float> outputs = RunSchedule(*backend, op, sequence, schedule, kSeed);
    EXPECT_GT(copies, 150);
    float largest = 0;
    for (const float value : expected) largest = std::max(largest, std::abs(value));
    ASSERT_EQ(outputs.size(), expected.size());
    for (size_t j = 0; j < outputs.size(); ++j) {
      ASSERT_NEAR(outputs[j], expected[j], 1e-5 * largest) << "schedule " << i;
    }
  }
}

TEST(SnapshotTwinTest, Mamba1AgreesBitForBit) {
  const auto backend = MakeBackend(PlainVariant());
  for (uint32_t i = 0; i < 20; ++i) {
    std::mt19937 generator(i);
    ScanOp op;
    HarnessSequence sequence{.slot = 1};
    const std::vector<StepShape> schedule = RandomSchedule(150, 8, generator);
    int64_t copies = 0;
    const auto expected = BitsOf(RunTwin(op, schedule, &copies));
    EXPECT_GT(copies, 150);
    ASSERT_EQ(BitsOf(RunSchedule(*backend, op, sequence, schedule, kSeed)), expected) << i;
  }
}

// Rounds of eight drafts, three and a half tokens kept on average; bytes counted by the op against
// those that a snapshot a token moves: the state read once and written for each token.
template <typename AnyOp>
double FewerThanSnapshots(AnyOp op) {
  const auto backend = MakeBackend(PlainVariant());
  HarnessSequence sequence{.slot = 1};
  RunSchedule(*backend, op, sequence, {{.num_final = 33}}, kSeed);
  std::vector<StepShape> rounds;
  for (int i = 0; i < 37; ++i) rounds.push_back({1, 8, i % 2 == 0 ? 2 : 3});
  StateTraffic traffic;
  RunSchedule(*backend, op, sequence, rounds, kSeed, &traffic);
  const double snapshots = static_cast<double>(rounds.size()) * op.state_bytes() * (1 + 9);
  return snapshots / static_cast<double>(traffic.of_states());
}

TEST(SnapshotTwinTest, StatesOfAnEightBillionModelMoveFarFewerBytes) {
  EXPECT_GE(
      FewerThanSnapshots(StateOp({.heads = 32, .groups = 8, .head_dim = 128, .state_dim = 128})),
      7);
  EXPECT_GE(FewerThanSnapshots(ScanOp({.inputs = 1024, .repeat = 4, .group = 16})), 2.5);
}

}  // namespace
}  // namespace krait::kernels
