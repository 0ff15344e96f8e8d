// The recurrent ops have the CPU's bits, step by step, in outputs and in what they store; and their
// own over schedules and neighbours.

#include "tests/kernels/cuda/mirror_backend.h"
#include "tests/kernels/recurrent_test_ops.h"

namespace krait::kernels {
namespace {

class CudaRecurrentTest : public ::testing::Test {
 protected:
  // Fresh ops of every kind, of a few shapes.
  static std::vector<std::unique_ptr<RecurrentOp>> Ops() {
    std::vector<std::unique_ptr<RecurrentOp>> ops;
    ops.push_back(std::make_unique<ConvOp>());
    ops.push_back(std::make_unique<ConvOp>(4, 3, 40));
    ops.push_back(std::make_unique<StateOp>());
    ops.push_back(std::make_unique<StateOp>(
        StateOpShape{.heads = 4, .groups = 4, .head_dim = 64, .state_dim = 64, .drafts = 15}));
    ops.push_back(std::make_unique<StateOp>(StateOpShape{
        .heads = 3, .groups = 1, .head_dim = 136, .state_dim = 24, .interval = 8, .drafts = 3}));
    ops.push_back(std::make_unique<ScanOp>());
    ops.push_back(std::make_unique<ScanOp>(
        ScanOpShape{.inputs = 128, .repeat = 4, .group = 64, .drafts = 5}));
    return ops;
  }

  const std::unique_ptr<Backend> cpu_ = CreateCpuBackend({});
  const std::unique_ptr<Backend> cuda_ = CreateMirrorBackend();
};

TEST_F(CudaRecurrentTest, SchedulesHaveTheCpusBits) {
  std::mt19937 generator(11);
  for (int round = 0; round < 6; ++round) {
    auto on_cpu = Ops(), on_cuda = Ops();
    for (size_t i = 0; i < on_cpu.size(); ++i) {
      const auto schedule =
          RandomSchedule(150, static_cast<int>(on_cpu[i]->max_drafts()), generator);
      HarnessSequence cpu_sequence{.slot = 2}, cuda_sequence{.slot = 2};
      ASSERT_EQ(BitsOf(RunSchedule(*cpu_, *on_cpu[i], cpu_sequence, schedule, 5)),
                BitsOf(RunSchedule(*cuda_, *on_cuda[i], cuda_sequence, schedule, 5)))
          << i;
      ASSERT_EQ(BitsOf(on_cpu[i]->Canonical(*cpu_, cpu_sequence)),
                BitsOf(on_cuda[i]->Canonical(*cuda_, cuda_sequence)))
          << i;
    }
  }
}

// With so many that blocks take whole heads of the state.
TEST_F(CudaRecurrentTest, ManyHeadsHaveTheCpusBits) {
  std::mt19937 generator(13);
  for (const StateOpShape& shape : {StateOpShape{.heads = 128,
                                   .groups = 2,
                                   .head_dim = 136,
                                   .state_dim = 8,
                                   .interval = 8,
                                   .drafts = 14},
                                    StateOpShape{.heads = 128,
                                    .groups = 1,
                                    .head_dim = 40,
                                    .state_dim = 16,
                                    .interval = 16,
                                    .drafts = 3}}) {
    StateOp on_cpu(shape), on_cuda(shape);
    const auto schedule = RandomSchedule(40, static_cast<int>(on_cpu.max_drafts()), generator);
    HarnessSequence cpu_sequence{.slot = 2}, cuda_sequence{.slot = 2};
    ASSERT_EQ(BitsOf(RunSchedule(*cpu_, on_cpu, cpu_sequence, schedule, 5)),
              BitsOf(RunSchedule(*cuda_, on_cuda, cuda_sequence, schedule, 5)));
    ASSERT_EQ(BitsOf(on_cpu.Canonical(*cpu_, cpu_sequence)),
              BitsOf(on_cuda.Canonical(*cuda_, cuda_sequence)));
  }
}

TEST_F(CudaRecurrentTest, SchedulesAndNeighboursDoNotChangeABit) {
  std::mt19937 generator(12);
  auto plain_ops = Ops(), ops = Ops();
  for (size_t i = 0; i < ops.size(); ++i) {
    HarnessSequence plain{.slot = 1};
    const std::vector<float> expected =
        RunSchedule(*cuda_, *plain_ops[i], plain, PlainSchedule(90), 5);
    HarnessSequence sequence{.slot = 3}, other{.slot = 0};
    std::vector<float> outputs;
    for (const StepShape& step :
         RandomSchedule(90, static_cast<int>(ops[i]->max_drafts()), generator)) {
      const StepShape steps[] = {{.num_final = 2, .num_drafts = 1}, step};
      const uint32_t seeds[] = {9, 5};
      HarnessSequence* const sequences[] = {&other, &sequence};
      const auto kept = RunStep(*cuda_, *ops[i], sequences, steps, seeds);
      outputs.insert(outputs.end(), kept[1].begin(), kept[1].end());
    }
    ASSERT_EQ(BitsOf(expected), BitsOf(outputs)) << i;
  }
}

TEST_F(CudaRecurrentTest, TreesHaveTheCpusBits) {
  auto on_cpu = Ops(), on_cuda = Ops();
  for (size_t i = 0; i < on_cpu.size(); ++i) {
    for (int final_tokens : {0, 2}) {
      BatchArrays arrays;
      HarnessSequence cpu_sequence{.slot = 4}, cuda_sequence{.slot = 4};
      RunSchedule(*cpu_, *on_cpu[i], cpu_sequence, PlainSchedule(33), 5);
      RunSchedule(*cuda_, *on_cuda[i], cuda_sequence, PlainSchedule(33), 5);
      arrays.Add(cpu_sequence, final_tokens, 5);
      arrays.parents = {-1, 0, 1, 1, 3};
      if (final_tokens == 0) arrays.parents = {-1, 0, -1, 2, 0};
      if (on_cpu[i]->max_drafts() < 5) continue;
      const std::vector<float> inputs = Gaussian(5 * on_cpu[i]->input_width(), 31);
      ASSERT_EQ(BitsOf(on_cpu[i]->Run(*cpu_, arrays.batch(), inputs, nullptr)),
                BitsOf(on_cuda[i]->Run(*cuda_, arrays.batch(), inputs, nullptr)))
          << i;
      on_cpu[i] = std::move(Ops()[i]);
      on_cuda[i] = std::move(Ops()[i]);
    }
  }
}

}  // namespace
}  // namespace krait::kernels
