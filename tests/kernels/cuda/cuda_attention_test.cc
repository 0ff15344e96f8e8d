#include "tests/kernels/cuda/mirror_backend.h"
#include "tests/kernels/paged_attention_scene.h"

namespace krait::kernels {
namespace {

class CudaAttentionTest : public ::testing::Test {
 protected:
  const std::unique_ptr<Backend> cpu_ = CreateCpuBackend({});
  const std::unique_ptr<Backend> cuda_ = CreateMirrorBackend();
};

std::vector<Scene> Scenes() {
  std::vector<Scene> scenes = {
      Scene(1, 1, 8, 4, {{1, 1}, {3, 2}}),
      Scene(9, 3, 64, 16, {{130, 5}, {1, 1}, {128, 1}, {257, 40}}),
      Scene(8, 2, 128, 16, {{700, 3}, {129, 2}}),
      Scene(6, 1, 40, 32, {{300, 9}}),
      Scene(2, 2, 512, 8, {{150, 2}}),
      Scene(32, 2, 128, 16, {{260, 20}}),
      Scene(4, 2, 64, 16, {{600, 12}, {90, 4}}),
  };
  scenes.back().window = 140;
  scenes.back().PoisonUnseenKeys();
  return scenes;
}

TEST_F(CudaAttentionTest, AgreesWithTheCpu) {
  for (Scene& scene : Scenes()) {
    const std::vector<float> cpu = scene.Run(*cpu_, AllTokens(scene));
    const std::vector<float> cuda = scene.Run(*cuda_, AllTokens(scene));
    for (size_t i = 0; i < cpu.size(); ++i) {
      ASSERT_NEAR(cpu[i], cuda[i], 3e-6 * (1 + std::abs(cpu[i]))) << scene.head_dim;
    }
  }
}

// Queries and weights are split in two bf16 each there.
TEST_F(CudaAttentionTest, ACacheInBf16AgreesWithTheCpu) {
  for (Scene& scene : Scenes()) {
    scene.RoundCache();
    const std::vector<float> cpu = scene.Run(*cpu_, AllTokens(scene));
    const std::vector<float> cuda = scene.Run(*cuda_, AllTokens(scene), DType::kBF16);
    for (size_t i = 0; i < cpu.size(); ++i) {
      ASSERT_NEAR(cpu[i], cuda[i], 2e-5 * (1 + std::abs(cpu[i]))) << scene.head_dim;
    }
  }
}

TEST_F(CudaAttentionTest, ATokensBitsAreItsOwn) {
  for (Scene& scene : Scenes()) {
    for (const DType cache : {DType::kF32, DType::kBF16}) {
      const std::vector<float> all = scene.Run(*cuda_, AllTokens(scene), cache);
      const size_t width = all.size() / scene.num_tokens;
      for (int token = 0; token < scene.num_tokens; ++token) {
        ASSERT_EQ(BitsOf(scene.Run(*cuda_, {token}, cache)),
                  BitsOf(std::vector<float>(all.begin() + token * width,
                                            all.begin() + (token + 1) * width)));
      }
    }
  }
}

// What an earlier token draws does not depend on what a draft after it has come to.
TEST_F(CudaAttentionTest, ValuesThatAreNotFiniteReachOnlyThoseThatSeeThem) {
  for (Scene scene : {Scene(9, 3, 64, 16, {{131, 7}}), Scene(4, 1, 128, 16, {{70, 5}}),
                      Scene(2, 2, 40, 16, {{20, 4}})}) {
    for (const DType cache : {DType::kF32, DType::kBF16}) {
      const std::vector<float> sound = scene.Run(*cuda_, AllTokens(scene), cache);
      const int64_t width = static_cast<int64_t>(sound.size()) / scene.num_tokens;
      const int faulty = scene.num_tokens - 2;
      Scene poisoned = scene;
      for (int head = 0; head < scene.kv_heads; ++head) {
        poisoned.v[scene.KvOffset(0, scene.positions[faulty], head) + 3] = NAN;
      }
      const std::vector<float> got = poisoned.Run(*cuda_, AllTokens(scene), cache);
      ASSERT_EQ(BitsOf(std::vector<float>(got.begin(), got.begin() + faulty * width)),
                BitsOf(std::vector<float>(sound.begin(), sound.begin() + faulty * width)));
      for (int64_t i = faulty * width + 3; i < static_cast<int64_t>(got.size());
           i += scene.head_dim) {
        ASSERT_TRUE(std::isnan(got[i])) << i;
      }
    }
  }
}

}  // namespace
}  // namespace krait::kernels
