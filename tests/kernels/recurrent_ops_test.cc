// CausalConv1d, SelectiveScan, SelectiveStateUpdate: against the formula in double, and bit for bit
// under every schedule of chunks, drafts, acceptances and neighbours.

#include "tests/kernels/recurrent_test_ops.h"

namespace krait::kernels {
namespace {

enum class Op { kConv, kScan, kState };

std::unique_ptr<RecurrentOp> Make(Op op) {
  switch (op) {
    case Op::kConv:
      return std::make_unique<ConvOp>();
    case Op::kScan:
      return std::make_unique<ScanOp>();
    case Op::kState:
      return std::make_unique<StateOp>();
  }
  return nullptr;
}

constexpr Op kOps[] = {Op::kConv, Op::kScan, Op::kState};
constexpr int kTokens = 150;
constexpr uint32_t kSeed = 9;

class RecurrentOpsTest : public ::testing::TestWithParam<BackendVariant> {
 protected:
  const std::unique_ptr<Backend> backend_ = MakeBackend(GetParam());
  const std::unique_ptr<Backend> plain_ = MakeBackend(PlainVariant());
};
INSTANTIATE_TEST_SUITE_P(Variants, RecurrentOpsTest, ::testing::ValuesIn(AllVariants()),
                         ::testing::PrintToStringParamName());

TEST_P(RecurrentOpsTest, ConvolutionIsTheFormula) {
  ConvOp op;
  HarnessSequence sequence{.slot = 2};
  const std::vector<float> out = RunSchedule(*backend_, op, sequence, {{.num_final = 7}}, kSeed);
  for (int t = 0; t < 7; ++t) {
    for (int64_t c : {0, 5, 263}) {
      ASSERT_NEAR(out[t * op.output_width() + c], op.Expected(kSeed, t, c), 1e-5) << t << " " << c;
    }
  }
}

template <typename AnyOp>
void ExpectRecurrence(Backend& backend, AnyOp op, int num_tokens) {
  HarnessSequence sequence{.slot = 1};
  const std::vector<float> out =
      RunSchedule(backend, op, sequence, PlainSchedule(num_tokens), kSeed);
  const std::vector<double> expected = op.Expected(kSeed, num_tokens);
  double largest = 0;
  for (double value : expected) largest = std::max(largest, std::abs(value));
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(out[i], expected[i], 1e-5 * largest) << "token " << i / op.output_width();
  }
}

TEST_P(RecurrentOpsTest, StateUpdateIsTheRecurrence) {
  ExpectRecurrence(*backend_, StateOp(), 100);
  ExpectRecurrence(*backend_, StateOp({.heads = 3, .groups = 3, .head_dim = 64, .state_dim = 24}),
                   40);
  ExpectRecurrence(*backend_, StateOp({.heads = 4, .groups = 1, .head_dim = 72, .interval = 8}),
                   40);
}

TEST_P(RecurrentOpsTest, ScanIsTheRecurrence) {
  ExpectRecurrence(*backend_, ScanOp(), 60);
  ExpectRecurrence(*backend_, ScanOp({.inputs = 32, .repeat = 1, .group = 16}), 40);
}

TEST_P(RecurrentOpsTest, AllVariantsHaveThePlainTwinsBits) {
  for (Op kind : kOps) {
    const auto op = Make(kind), plain_op = Make(kind);
    HarnessSequence sequence{.slot = 3}, plain_sequence{.slot = 3};
    const std::vector<StepShape> schedule = {{.num_final = 70}, {1, 8, 5}, {1, 3, 3}, {}};
    EXPECT_EQ(BitsOf(RunSchedule(*backend_, *op, sequence, schedule, kSeed)),
              BitsOf(RunSchedule(*plain_, *plain_op, plain_sequence, schedule, kSeed)));
    EXPECT_EQ(BitsOf(op->Canonical(*backend_, sequence)),
              BitsOf(plain_op->Canonical(*plain_, plain_sequence)));
  }
}

// The same tokens by any schedule: the same outputs, and the same state at the end.
TEST_P(RecurrentOpsTest, SchedulesDoNotChangeABit) {
  const int num_schedules = GetParam().num_threads == 1 ? 40 : 8;
  for (Op kind : kOps) {
    const auto plain_op = Make(kind);
    HarnessSequence plain_sequence{.slot = 0};
    const auto plain =
        BitsOf(RunSchedule(*backend_, *plain_op, plain_sequence, PlainSchedule(kTokens), kSeed));
    const auto state = BitsOf(plain_op->Canonical(*backend_, plain_sequence));
    for (int i = 0; i < num_schedules; ++i) {
      std::mt19937 generator(i);
      const auto op = Make(kind);
      HarnessSequence sequence{.slot = i % kTestSlots};
      const std::vector<StepShape> schedule =
          RandomSchedule(kTokens, static_cast<int>(op->max_drafts()), generator);
      ASSERT_EQ(BitsOf(RunSchedule(*backend_, *op, sequence, schedule, kSeed)), plain)
          << "op " << static_cast<int>(kind) << " schedule " << i;
      ASSERT_EQ(BitsOf(op->Canonical(*backend_, sequence)), state)
          << "op " << static_cast<int>(kind) << " schedule " << i;
    }
  }
}

TEST_P(RecurrentOpsTest, NeighboursDoNotChangeABit) {
  for (Op kind : kOps) {
    const auto alone_op = Make(kind), op = Make(kind);
    HarnessSequence alone{.slot = 4};
    const std::vector<StepShape> schedule = {{.num_final = 45}, {1, 8, 2}, {1, 4, 4}, {1, 0, 0}};
    const auto expected = BitsOf(RunSchedule(*backend_, *alone_op, alone, schedule, kSeed));
    HarnessSequence sequence{.slot = 4}, other{.slot = 1}, third{.slot = 2};
    HarnessSequence* const all[] = {&other, &sequence, &third};
    std::vector<float> outputs;
    for (const StepShape& step : schedule) {
      const StepShape steps[] = {{.num_final = 33}, step, {1, 5, 1}};
      const uint32_t seeds[] = {1, kSeed, 2};
      const auto kept = RunStep(*backend_, *op, all, steps, seeds);
      outputs.insert(outputs.end(), kept[1].begin(), kept[1].end());
    }
    EXPECT_EQ(BitsOf(outputs), expected) << static_cast<int>(kind);
  }
}

TEST_P(RecurrentOpsTest, ASlotsOldContentDoesNotReachItsNextSequence) {
  for (Op kind : kOps) {
    const auto op = Make(kind), fresh = Make(kind);
    HarnessSequence first{.slot = 2}, second{.slot = 2}, expected{.slot = 0};
    RunSchedule(*backend_, *op, first, {{.num_final = 90}, {1, 8, 3}}, 5);
    const std::vector<StepShape> schedule = {{.num_final = 2}, {1, 8, 8}, {1, 8, 8},
                                             {1, 8, 8},        {1, 8, 8}, {1, 2, 0}};
    EXPECT_EQ(BitsOf(RunSchedule(*backend_, *op, second, schedule, kSeed)),
              BitsOf(RunSchedule(*backend_, *fresh, expected, schedule, kSeed)));
  }
}

// As a draft model runs: it feeds its own drafts one by one, none of them final, and goes back to
// what was accepted of them.
TEST_P(RecurrentOpsTest, DraftsFedOneByOneLeaveNothingBehind) {
  constexpr int kDrafts = 8;
  for (Op kind : kOps) {
    const auto op = Make(kind), plain_op = Make(kind);
    HarnessSequence plain{.slot = 2};
    const auto expected =
        BitsOf(RunSchedule(*backend_, *plain_op, plain, PlainSchedule(kTokens), kSeed));
    HarnessSequence sequence{.slot = 1};
    std::vector<float> outputs = RunSchedule(*backend_, *op, sequence, {{.num_final = 20}}, kSeed);
    for (int round = 0; sequence.committed + kDrafts < kTokens; ++round) {
      // The committed token's pass, then one pass a draft; the first `accepted` are right.
      const int accepted = round % kDrafts, start = sequence.committed;
      HarnessSequence at = sequence;
      for (int i = 0; i < kDrafts; ++i) {
        const bool right = i <= accepted;
        BatchArrays arrays;
        arrays.Add(at, i == 0 ? 1 : 1 - i, 1);
        const std::vector<float> out =
            op->Run(*backend_, arrays.batch(),
                    TrueInput(op->input_width(), right ? kSeed : kSeed + 1, start + i), nullptr);
        if (right) outputs.insert(outputs.end(), out.begin(), out.end());
        at.state_position = start + 1;
        ++at.committed;
      }
      sequence.state_position = start + 1;
      sequence.committed = start + 1 + accepted;
    }
    const auto bits = BitsOf(outputs);
    EXPECT_EQ(bits, std::vector<uint32_t>(expected.begin(), expected.begin() + bits.size()))
        << static_cast<int>(kind);
  }
}

// Every root-to-leaf path of a tree has the bits of that path run as a chain.
void ExpectPathsAreChains(Backend& backend, Op kind, uint32_t tree) {
  std::mt19937 generator(tree);
  const auto random = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(generator);
  };
  const int committed = random(0, 70), nodes = random(1, 9);
  const int room = 32 - committed % 32 - 1;  // nodes on a path after the final token
  const auto make = [&] {
    auto op = Make(kind);
    HarnessSequence sequence{.slot = 1};
    if (committed > 0) RunSchedule(backend, *op, sequence, {{.num_final = committed}}, kSeed);
    return std::make_pair(std::move(op), sequence);
  };
  auto [op, sequence] = make();
  // Node 0 is the final token, the root.
  std::vector<int> parent = {-1}, depth = {0};
  for (int i = 1; i < nodes; ++i) {
    int candidate = random(0, i - 1);
    while (depth[candidate] >= room && candidate > 0) candidate = parent[candidate];
    if (depth[candidate] >= room) break;
    parent.push_back(candidate);
    depth.push_back(depth[candidate] + 1);
  }
  const int size = static_cast<int>(parent.size());
  const auto input = [&](int node) {
    return TrueInput(op->input_width(), 1000 + tree, 500 + node);
  };
  BatchArrays arrays;
  arrays.Add(sequence, 1, size);
  arrays.parents.assign(parent.begin(), parent.end());
  std::vector<float> inputs;
  for (int i = 0; i < size; ++i) {
    const auto row = input(i);
    inputs.insert(inputs.end(), row.begin(), row.end());
  }
  const std::vector<float> out = op->Run(backend, arrays.batch(), inputs, nullptr);
  for (int leaf = 0; leaf < size; ++leaf) {
    std::vector<int> path;
    for (int node = leaf; node >= 0; node = parent[node]) path.insert(path.begin(), node);
    auto [chain_op, chain_sequence] = make();
    BatchArrays chain;
    chain.Add(chain_sequence, 1, static_cast<int>(path.size()));
    std::vector<float> chain_inputs;
    for (int node : path) {
      const auto row = input(node);
      chain_inputs.insert(chain_inputs.end(), row.begin(), row.end());
    }
    const std::vector<float> expected =
        chain_op->Run(backend, chain.batch(), chain_inputs, nullptr);
    const int64_t width = op->output_width();
    for (size_t i = 0; i < path.size(); ++i) {
      const auto row = out.begin() + path[i] * width;
      const auto expected_row = expected.begin() + static_cast<int64_t>(i) * width;
      ASSERT_EQ(BitsOf({row, row + width}), BitsOf({expected_row, expected_row + width}))
          << "tree " << tree << " node " << path[i];
    }
  }
}

TEST_P(RecurrentOpsTest, EveryPathOfATreeIsAChain) {
  const uint32_t trees = GetParam().num_threads == 1 ? 200 : 20;
  for (Op kind : kOps) {
    for (uint32_t tree = 0; tree < trees; ++tree) ExpectPathsAreChains(*backend_, kind, tree);
  }
}

// A trunk whose nodes come first is committed by moving the cursor, branches or not.
TEST_P(RecurrentOpsTest, ATreesTrunkCommitsLikeAChain) {
  for (Op kind : kOps) {
    const auto op = Make(kind), chain_op = Make(kind);
    HarnessSequence sequence{.slot = 1}, chain{.slot = 1};
    const std::vector<StepShape> prompt = {{.num_final = 40}};
    RunSchedule(*backend_, *op, sequence, prompt, kSeed);
    RunSchedule(*backend_, *chain_op, chain, prompt, kSeed);
    BatchArrays arrays;
    arrays.Add(sequence, 1, 6);
    arrays.parents = {-1, 0, 1, 2, 1, 0};
    std::vector<float> inputs;
    for (int i = 0; i < 6; ++i) {
      const auto row = TrueInput(op->input_width(), i < 4 ? kSeed : 4, 40 + i);
      inputs.insert(inputs.end(), row.begin(), row.end());
    }
    op->Run(*backend_, arrays.batch(), inputs, nullptr);
    sequence.state_position = 41;
    sequence.committed = 44;
    RunSchedule(*backend_, *chain_op, chain, {{1, 3, 3}}, kSeed);
    const std::vector<StepShape> rest = {{1, 8, 4}, {}};
    EXPECT_EQ(BitsOf(RunSchedule(*backend_, *op, sequence, rest, kSeed)),
              BitsOf(RunSchedule(*backend_, *chain_op, chain, rest, kSeed)));
  }
}

// The fold boundary at every index inside the verify window, and twice in a row.
TEST(StateUpdateTest, AFoldAtEveryIndexOfTheWindow) {
  const auto backend = MakeBackend(PlainVariant());
  StateOp plain_op;
  HarnessSequence plain_sequence;
  const auto plain =
      BitsOf(RunSchedule(*backend, plain_op, plain_sequence, PlainSchedule(90), kSeed));
  for (int offset = 0; offset < 9; ++offset) {
    for (int accepted = 0; accepted <= 8; ++accepted) {
      StateOp op;
      HarnessSequence sequence{.slot = 3};
      std::vector<StepShape> schedule = {{.num_final = 32 - offset}, {1, 8, accepted}};
      // Back to the same place before the next boundary.
      schedule.push_back({.num_final = 64 - 32 - 1 - accepted});
      schedule.push_back({1, 8, accepted});
      const std::vector<float> out = RunSchedule(*backend, op, sequence, schedule, kSeed);
      ASSERT_EQ(BitsOf(out), std::vector<uint32_t>(plain.begin(), plain.begin() + out.size()))
          << "offset " << offset << " accepted " << accepted;
    }
  }
}

// All drafts accepted, again and again: the ring wraps with the largest span it has to hold.
std::vector<float> RunFullRounds(StateOp& op, Backend& backend) {
  HarnessSequence sequence{.slot = 1};
  std::vector<StepShape> schedule = {{.num_final = 30}};
  for (int round = 0; round < 12; ++round) schedule.push_back({1, 8, round % 9});
  return RunSchedule(backend, op, sequence, schedule, kSeed);
}

TEST(StateUpdateTest, TheShortestRingServes) {
  const auto backend = MakeBackend(PlainVariant());
  StateOp shortest, longer({.ring_slack = 25});
  EXPECT_EQ(BitsOf(RunFullRounds(shortest, *backend)), BitsOf(RunFullRounds(longer, *backend)));
}

TEST(StateUpdateDeathTest, AShorterRingIsRefused) {
  const auto backend = MakeBackend(PlainVariant());
  StateOp op({.ring_slack = -1});
  EXPECT_DEATH(RunFullRounds(op, *backend), "too many drafts for the ring");
}

TEST(StateUpdateDeathTest, ATreeMayNotReachTheBoundary) {
  const auto backend = MakeBackend(PlainVariant());
  StateOp op;
  HarnessSequence sequence{.slot = 1};
  RunSchedule(*backend, op, sequence, {{.num_final = 30}}, kSeed);
  BatchArrays arrays;
  arrays.Add(sequence, 1, 3);
  arrays.parents = {-1, 0, 1};
  const auto inputs = Gaussian(3 * op.input_width(), 1);
  EXPECT_DEATH(op.Run(*backend, arrays.batch(), inputs, nullptr), "fold boundary");
}

TEST(ScanTest, TheShortestRingsServe) {
  const auto backend = MakeBackend(PlainVariant());
  ScanOp shortest, longer({.ring_slack = 9, .conv_slack = 5});
  const std::vector<StepShape> schedule = {{.num_final = 5}, {1, 8, 8}, {1, 8, 0}, {1, 8, 7},
                                           {1, 8, 8},        {1, 3, 1}, {1, 8, 8}};
  HarnessSequence a{.slot = 1}, b{.slot = 1};
  EXPECT_EQ(BitsOf(RunSchedule(*backend, shortest, a, schedule, kSeed)),
            BitsOf(RunSchedule(*backend, longer, b, schedule, kSeed)));
}

TEST(ScanTest, AShorterConvolutionRingShows) {
  const auto backend = MakeBackend(PlainVariant());
  ScanOp served, shorter({.conv_slack = -1});
  const std::vector<StepShape> schedule = {{.num_final = 5}, {1, 8, 0}, {1, 8, 0}};
  HarnessSequence a{.slot = 1}, b{.slot = 1};
  EXPECT_NE(BitsOf(RunSchedule(*backend, served, a, schedule, kSeed)),
            BitsOf(RunSchedule(*backend, shorter, b, schedule, kSeed)));
}

// performance.md's argument for the ring: bytes a step, counted, against one snapshot a token.
TEST(StateUpdateTest, StateTrafficIsThatOfTheRing) {
  const auto backend = MakeBackend(PlainVariant());
  StateOp op({.heads = 4, .groups = 1, .head_dim = 64, .state_dim = 64});
  HarnessSequence sequence{.slot = 1};
  RunSchedule(*backend, op, sequence, {{.num_final = 64}}, kSeed);
  StateTraffic traffic;
  const int rounds = 64;
  std::vector<StepShape> schedule(rounds, StepShape{1, 8, 2});
  RunSchedule(*backend, op, sequence, schedule, kSeed, &traffic);
  const double s = op.state_bytes(), i = op.entry_bytes(), tau = 3, window = 32, tokens = 9;
  const double expected = s * (1 + tau / window) + i * (window / 2 + tokens);
  EXPECT_NEAR(static_cast<double>(traffic.total()) / rounds, expected, 0.1 * expected);
}

TEST(ScanTest, StateTrafficIsOneReadAndOneWriteAStep) {
  const auto backend = MakeBackend(PlainVariant());
  ScanOp op;
  HarnessSequence sequence{.slot = 1};
  RunSchedule(*backend, op, sequence, {{.num_final = 64}}, kSeed);
  StateTraffic traffic;
  RunSchedule(*backend, op, sequence, {{1, 8, 2}, {1, 8, 8}}, kSeed, &traffic);
  EXPECT_EQ(traffic.state_read, 2 * op.state_bytes());
  EXPECT_EQ(traffic.state_written, 2 * op.state_bytes());
}

class GatedRmsNormTest : public RecurrentOpsTest {};
INSTANTIATE_TEST_SUITE_P(Variants, GatedRmsNormTest, ::testing::ValuesIn(AllVariants()),
                         ::testing::PrintToStringParamName());

TEST_P(GatedRmsNormTest, GatesFirstAndNormalizesEachGroup) {
  const int64_t rows = 5, n = 48, group = 16;
  std::vector<float> y = Gaussian(rows * n, 1), z = Gaussian(rows * n, 2), weight = Gaussian(n, 3);
  std::vector<float> out(rows * n, NAN), plain(rows * n, NAN);
  for (const auto& [backend, to] :
       {std::make_pair(backend_.get(), &out), std::make_pair(plain_.get(), &plain)}) {
    backend->GatedRmsNorm({.y = View(y, {rows, n}),
                           .z = View(z, {rows, n}),
                           .weight = View(weight, {n}),
                           .group_size = group,
                           .out = View(*to, {rows, n})});
  }
  EXPECT_EQ(BitsOf(out), BitsOf(plain));
  for (int64_t i = 0; i < rows * n; ++i) {
    const int64_t first = i / group * group;
    const auto gated = [&](int64_t j) { return y[j] * z[j] / (1 + std::exp(-double{z[j]})); };
    double squares = 0;
    for (int64_t j = first; j < first + group; ++j) squares += gated(j) * gated(j);
    const double expected = gated(i) / std::sqrt(squares / group + 1e-5) * weight[i % n];
    ASSERT_NEAR(out[i], expected, 1e-5) << i;
  }
}

}  // namespace
}  // namespace krait::kernels
