#include "worker/sampling/shard_sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <thread>

#include "common/gumbel.h"
#include "gtest/gtest.h"
#include "worker/comm/in_process_communicator.h"

namespace krait {
namespace {

constexpr int kVocab = 700;

// The same rules for one row on one shard, written plainly.
class PlainSampler {
 public:
  static SampledToken Draw(std::vector<float> logits, const SampleRow& row) {
    const SamplingParams& params = *row.params;
    SampledToken token;
    for (float logit : logits) token.finite &= std::isfinite(logit);
    if (!token.finite) return token;
    const std::vector<float> raw = logits;
    Bias(row, logits);
    Penalize(row, logits);
    token.id = Choose(logits, row);
    if (params.num_logprobs >= 0) token.logprobs = Logprobs(raw, token.id, params.num_logprobs);
    return token;
  }

 private:
  static void Bias(const SampleRow& row, std::vector<float>& logits) {
    const SamplingParams& p = *row.params;
    for (const LogitBias& entry : p.logit_bias) logits[entry.id] += entry.bias;
    const size_t num_generated = row.history.size() - row.prompt_tokens + row.drafts.size();
    if (num_generated >= static_cast<size_t>(p.min_tokens)) return;
    for (TokenId id : p.end_ids) logits[id] = -std::numeric_limits<float>::infinity();
  }

  static void Penalize(const SampleRow& row, std::vector<float>& logits) {
    std::map<TokenId, int> output;
    std::vector<TokenId> path(row.history.begin(), row.history.end());
    path.insert(path.end(), row.drafts.begin(), row.drafts.end());
    for (size_t i = 0; i < path.size(); ++i) {
      output[path[i]] += static_cast<int>(i) >= row.prompt_tokens;
    }
    const SamplingParams& p = *row.params;
    for (const auto& [id, count] : output) {
      float& l = logits[id];
      l = l > 0 ? l / p.repetition_penalty : l * p.repetition_penalty;
      if (count > 0) l = l - count * p.frequency_penalty - p.presence_penalty;
    }
  }

  static std::vector<TokenId> Falling(const std::vector<float>& logits) {
    std::vector<TokenId> ids(logits.size());
    std::iota(ids.begin(), ids.end(), 0);
    std::stable_sort(ids.begin(), ids.end(),
                     [&](TokenId a, TokenId b) { return logits[a] > logits[b]; });
    return ids;
  }

  static TokenId Choose(const std::vector<float>& logits, const SampleRow& row) {
    const SamplingParams& p = *row.params;
    std::vector<TokenId> ids = Falling(logits);
    if (p.temperature < 1e-5f) return ids[0];
    const float max = logits[ids[0]];
    const auto z = [&](TokenId id) { return (logits[id] - max) / p.temperature; };
    if (p.min_p > 0) {
      std::erase_if(ids, [&](TokenId id) { return z(id) < std::log(p.min_p); });
    }
    if (p.top_k > 0 && ids.size() > static_cast<size_t>(p.top_k)) ids.resize(p.top_k);
    if (p.top_p < 1) {
      double total = 0, sum = 0;
      for (TokenId id : ids) total += std::exp(double{z(id)});
      size_t kept = 0;
      while (kept < ids.size() && sum < double{p.top_p} * total)
        sum += std::exp(double{z(ids[kept++])});
      ids.resize(std::max<size_t>(1, kept));
    }
    std::sort(ids.begin(), ids.end());
    const GumbelKey key{.seed = p.seed,
                        .position = static_cast<int64_t>(row.history.size() + row.drafts.size()),
                        .choice = p.choice};
    TokenId best = ids[0];
    for (TokenId id : ids) {
      if (z(id) + Gumbel(key, id) > z(best) + Gumbel(key, best)) best = id;
    }
    return best;
  }

  static PositionLogprobs Logprobs(const std::vector<float>& raw, TokenId id, int count) {
    const std::vector<TokenId> ids = Falling(raw);
    double sum = 0;
    for (float logit : raw) sum += std::exp(double{logit} - raw[ids[0]]);
    const double log_sum_exp = raw[ids[0]] + std::log(sum);
    const auto entry = [&](TokenId i) {
      return TokenLogprob{i, static_cast<float>(raw[i] - log_sum_exp)};
    };
    PositionLogprobs result{entry(id), {}};
    for (int i = 0; i < count; ++i) result.top.push_back(entry(ids[i]));
    return result;
  }
};

// All shards draw, a thread each; they must agree.
std::vector<SampledToken> DrawSharded(const std::vector<std::vector<float>>& logits,
                                      absl::Span<const SampleRow> rows, int num_shards,
                                      const std::vector<TokenId>& ids = {}) {
  const int size = static_cast<int>(logits[0].size());
  std::vector<std::unique_ptr<Backend>> backends;
  std::vector<Backend*> pointers;
  for (int r = 0; r < num_shards; ++r) {
    backends.push_back(CreateCpuBackend({.index = r}));
    pointers.push_back(backends.back().get());
  }
  auto comms = CreateInProcessGroup(pointers);
  std::vector<std::vector<SampledToken>> drawn(num_shards);
  std::vector<std::thread> threads;
  for (int r = 0; r < num_shards; ++r) {
    threads.emplace_back([&, r] {
      // Uneven on purpose: the first shards are the smaller.
      const int begin = size * r * (r + 1) / (num_shards * (num_shards + 1));
      const int end = size * (r + 1) * (r + 2) / (num_shards * (num_shards + 1));
      VocabShard shard{.begin = begin, .end = end};
      if (!ids.empty()) shard.ids.assign(ids.begin() + begin, ids.begin() + end);
      std::vector<float> own;
      for (const auto& row : logits) own.insert(own.end(), row.begin() + begin, row.begin() + end);
      ShardSampler sampler(backends[r].get(), shard, num_shards);
      const auto result = sampler.Sample(
          TensorView(own.data(), DType::kF32, {static_cast<int64_t>(logits.size()), end - begin}),
          rows, [&](absl::Span<const std::byte> send, absl::Span<std::byte> recv) {
            return comms[r]->AllGather(send, recv);
          });
      ASSERT_TRUE(result.ok()) << result.status();
      drawn[r] = *result;
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int r = 1; r < num_shards; ++r) {
    for (size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(drawn[r][i].id, drawn[0][i].id);
  }
  return drawn[0];
}

void ExpectSameLogprobs(const PositionLogprobs& a, const PositionLogprobs& b, float tolerance) {
  EXPECT_EQ(a.token.id, b.token.id);
  EXPECT_NEAR(a.token.logprob, b.token.logprob, tolerance);
  ASSERT_EQ(a.top.size(), b.top.size());
  for (size_t i = 0; i < a.top.size(); ++i) {
    EXPECT_EQ(a.top[i].id, b.top[i].id);
    EXPECT_NEAR(a.top[i].logprob, b.top[i].logprob, tolerance);
  }
}

struct Problem {
  std::vector<std::vector<float>> logits;
  std::vector<SamplingParams> params;
  std::vector<std::vector<TokenId>> histories;
  std::vector<std::vector<TokenId>> drafts;
  std::vector<SampleRow> rows;
};

// Every mixture of processors; coarse logits, so that there are ties.
Problem MakeProblem(uint32_t seed, int num_rows) {
  Problem problem;
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 3);
  const auto chance = [&](int n) { return random() % n == 0; };
  for (int i = 0; i < num_rows; ++i) {
    const bool coarse = chance(3);
    std::vector<float>& row = problem.logits.emplace_back(kVocab);
    for (float& l : row) {
      l = normal(random);
      if (coarse) l = std::round(l);
    }
    SamplingParams& p = problem.params.emplace_back();
    p.temperature = chance(4) ? 0.0f : 0.2f + 0.1f * (random() % 12);
    if (chance(2)) p.top_k = 1 + random() % (chance(4) ? kVocab : 60);
    if (chance(2)) p.top_p = chance(4) ? 0.9999f : 0.05f + 0.9f * (random() % 100) / 100;
    if (chance(3)) p.min_p = chance(3) ? 1e-6f : 0.05f;
    if (chance(3)) {
      p.repetition_penalty = 1.3f;
      p.presence_penalty = 0.4f;
      p.frequency_penalty = 0.7f;
    }
    p.seed = random() * 0x100000001ull;
    p.choice = random() % 3;
    p.num_logprobs = chance(2) ? static_cast<int>(random() % 6) : -1;
    problem.histories.emplace_back(1 + random() % 60);
    for (TokenId& id : problem.histories.back()) id = random() % (kVocab / 8);
    problem.drafts.emplace_back(random() % 4);
    for (TokenId& id : problem.drafts.back()) id = random() % (kVocab / 8);
    std::map<TokenId, float> biases;
    while (chance(2)) biases[random() % kVocab] = static_cast<float>(random() % 41) - 20;
    for (const auto& [id, bias] : biases) p.logit_bias.push_back({id, bias});
    if (chance(3)) {
      p.min_tokens = static_cast<int32_t>(random() % 40);
      // Likely tokens, so that masking them changes the draw.
      std::set<TokenId> end_ids;
      for (int n = 0; n < 20; ++n) {
        const TokenId id = random() % kVocab;
        end_ids.insert(id);
        row[id] += 4;
      }
      if (!biases.empty()) end_ids.insert(biases.begin()->first);
      p.end_ids.assign(end_ids.begin(), end_ids.end());
    }
  }
  for (int i = 0; i < num_rows; ++i) {
    problem.rows.push_back({&problem.params[i], problem.histories[i],
                            static_cast<int>(problem.histories[i].size() / 2), problem.drafts[i]});
  }
  return problem;
}

TEST(ShardSamplerTest, EqualsThePlainSamplerAndDoesNotDependOnTheNumberOfShards) {
  int noisy = 0, filtered = 0, biased = 0, masked = 0;
  for (uint32_t seed = 1; seed <= 40; ++seed) {
    const Problem problem = MakeProblem(seed, 12);
    const auto one = DrawSharded(problem.logits, problem.rows, 1);
    for (size_t i = 0; i < one.size(); ++i) {
      const SampledToken plain = PlainSampler::Draw(problem.logits[i], problem.rows[i]);
      EXPECT_EQ(one[i].id, plain.id) << "seed=" << seed << " row=" << i;
      ExpectSameLogprobs(one[i].logprobs, plain.logprobs, 2e-6f);
      noisy += problem.params[i].temperature > 0;
      biased += !problem.params[i].logit_bias.empty();
      SamplingParams unmasked = problem.params[i];
      unmasked.min_tokens = 0;
      SampleRow row = problem.rows[i];
      row.params = &unmasked;
      masked += PlainSampler::Draw(problem.logits[i], row).id != plain.id;
      filtered += problem.params[i].temperature > 0 && problem.params[i].top_p < 1;
    }
    for (int shards : {2, 3}) {
      const auto many = DrawSharded(problem.logits, problem.rows, shards);
      for (size_t i = 0; i < one.size(); ++i) {
        EXPECT_EQ(many[i].id, one[i].id) << "seed=" << seed << " shards=" << shards;
        ExpectSameLogprobs(many[i].logprobs, one[i].logprobs, 0.0f);
      }
    }
  }
  EXPECT_GT(noisy, 100);
  EXPECT_GT(filtered, 50);
  EXPECT_GT(biased, 100);
  EXPECT_GT(masked, 20);
}

TEST(ShardSamplerTest, ARowIsDrawnAlikeAloneAndAmongOthers) {
  const Problem problem = MakeProblem(77, 16);
  const auto together = DrawSharded(problem.logits, problem.rows, 2);
  for (size_t i = 0; i < problem.rows.size(); ++i) {
    const auto alone = DrawSharded({problem.logits[i]}, {&problem.rows[i], 1}, 2);
    EXPECT_EQ(alone[0].id, together[i].id);
    ExpectSameLogprobs(alone[0].logprobs, together[i].logprobs, 0.0f);
  }
}

TEST(ShardSamplerTest, ANucleusWiderThanTheFirstListsIsCoveredExactly) {
  SamplingParams params{.temperature = 1, .top_p = 0.97f, .seed = 3};
  const std::vector<TokenId> history = {1, 2, 3};
  std::vector<float> flat(kVocab);
  for (int i = 0; i < kVocab; ++i) flat[i] = -0.0001f * ((i * 37) % kVocab);
  for (uint64_t seed = 0; seed < 50; ++seed) {
    params.seed = seed;
    const SampleRow row{&params, history, 3, {}};
    const TokenId plain = PlainSampler::Draw(flat, row).id;
    for (int shards : {1, 3}) EXPECT_EQ(DrawSharded({flat}, {&row, 1}, shards)[0].id, plain);
  }
}

TEST(ShardSamplerTest, ARowThatIsNotFiniteIsFlaggedAndHarmsNoOther) {
  Problem problem = MakeProblem(5, 4);
  const auto clean = DrawSharded(problem.logits, problem.rows, 3);
  for (float bad : {std::nanf(""), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    for (int where : {0, kVocab / 2, kVocab - 1}) {
      auto logits = problem.logits;
      logits[1][where] = bad;
      const auto drawn = DrawSharded(logits, problem.rows, 3);
      EXPECT_FALSE(drawn[1].finite);
      EXPECT_EQ(drawn[1].id, -1);
      for (int i : {0, 2, 3}) EXPECT_EQ(drawn[i].id, clean[i].id);
    }
  }
}

TEST(ShardSamplerTest, EndTokensAreMaskedInTheFirstMinTokensCountingDrafts) {
  std::vector<float> logits(kVocab, 0.0f);
  logits[7] = 50;  // an end token that would always win
  logits[9] = 40;
  const std::vector<TokenId> history = {1, 2, 3, 4, 5};  // three of them the prompt
  const std::vector<TokenId> drafts = {9, 9, 9};
  for (float temperature : {0.0f, 1.0f}) {
    const SamplingParams params{.temperature = temperature, .min_tokens = 4, .end_ids = {7}};
    for (int num_drafts = 0; num_drafts <= 3; ++num_drafts) {
      const SampleRow row{&params, history, 3, absl::MakeConstSpan(drafts).first(num_drafts)};
      const TokenId expected = 2 + num_drafts < 4 ? 9 : 7;
      for (int shards : {1, 2, 3}) {
        EXPECT_EQ(DrawSharded({logits}, {&row, 1}, shards)[0].id, expected) << num_drafts;
      }
    }
  }
}

TEST(ShardSamplerTest, LogprobsStayThoseOfTheRawLogits) {
  Problem problem = MakeProblem(9, 1);
  problem.params[0] = {.temperature = 0, .num_logprobs = 3};
  const auto plain = DrawSharded(problem.logits, problem.rows, 2);
  const TokenId likeliest = plain[0].id;
  problem.params[0].repetition_penalty = 2;
  problem.params[0].logit_bias = {{likeliest, -100}, {likeliest + 1, 100}};
  const auto biased = DrawSharded(problem.logits, problem.rows, 2);
  EXPECT_EQ(biased[0].id, likeliest + 1);
  EXPECT_EQ(biased[0].logprobs.top[0].logprob, plain[0].logprobs.top[0].logprob);
  EXPECT_LT(biased[0].logprobs.token.logprob, plain[0].logprobs.top[0].logprob);
}

TEST(ShardSamplerTest, AMaskThatLeavesNothingIsAFaultOfItsRowAlone) {
  Problem problem = MakeProblem(5, 3);
  const auto clean = DrawSharded(problem.logits, problem.rows, 3);
  problem.params[1].min_tokens = 1000;
  problem.params[1].end_ids.resize(kVocab);
  std::iota(problem.params[1].end_ids.begin(), problem.params[1].end_ids.end(), 0);
  const auto drawn = DrawSharded(problem.logits, problem.rows, 3);
  EXPECT_FALSE(drawn[1].finite);
  for (int i : {0, 2}) EXPECT_EQ(drawn[i].id, clean[i].id);
}

TEST(ShardSamplerTest, TopKOfTiesKeepsTheLowestIds) {
  const std::vector<float> ties(kVocab, 1.0f);
  SamplingParams params{.temperature = 1, .top_k = 5};
  const std::vector<TokenId> history = {0};
  std::vector<int> seen(kVocab);
  for (uint64_t seed = 0; seed < 200; ++seed) {
    params.seed = seed;
    const SampleRow row{&params, history, 1, {}};
    ++seen[DrawSharded({ties}, {&row, 1}, 2)[0].id];
  }
  for (int id = 0; id < kVocab; ++id) EXPECT_EQ(seen[id] > 0, id < 5) << id;
}

// Whether min_p alone filters or lists are cut: what has exactly min_p of the likeliest token's
// probability may be drawn, what has less may not.
TEST(ShardSamplerTest, ATokenAtMinPsLimitMayBeDrawn) {
  const std::vector<TokenId> history = {0};
  const float limit = static_cast<float>(std::log(0.25));
  for (const int top_k : {0, 3}) {
    for (const bool below : {false, true}) {
      std::vector<float> logits(kVocab, -100.0f);
      logits[3] = 0;
      logits[650] = below ? std::nextafter(limit, -2.0f) : limit;
      SamplingParams params{.temperature = 1, .top_k = top_k, .min_p = 0.25f};
      int drawn = 0;
      for (params.seed = 0; params.seed < 100; ++params.seed) {
        const SampleRow row{&params, history, 1, {}};
        for (int shards : {1, 3}) drawn += DrawSharded({logits}, {&row, 1}, shards)[0].id == 650;
      }
      EXPECT_EQ(drawn > 0, !below) << "top_k=" << top_k;
    }
  }
}

// A reduced head draws with the noise of the target's ids: a draft whose logits are the target's
// draws the same token whenever its vocabulary has it.
TEST(ShardSamplerTest, AReducedVocabularySharesTheNoiseByTargetId) {
  std::vector<TokenId> ids;
  for (TokenId id = 0; id < kVocab; ++id) {
    if (id % 3 != 1) ids.push_back(id);
  }
  int compared = 0;
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    Problem problem = MakeProblem(seed, 8);
    std::vector<SampleRow> rows;
    std::vector<std::vector<float>> reduced;
    for (size_t i = 0; i < problem.rows.size(); ++i) {
      problem.params[i].top_p = 1;  // its mass is another one
      std::erase_if(problem.params[i].logit_bias, [](const LogitBias& b) { return b.id % 3 == 1; });
      problem.params[i].num_logprobs = -1;
      for (TokenId id = 0; id < kVocab; ++id) {
        if (id % 3 == 1) problem.logits[i][id] = -1e4f;
      }
      std::vector<float>& row = reduced.emplace_back();
      for (TokenId id : ids) row.push_back(problem.logits[i][id]);
    }
    const auto full = DrawSharded(problem.logits, problem.rows, 1);
    for (int shards : {1, 2}) {
      const auto part = DrawSharded(reduced, problem.rows, shards, ids);
      for (size_t i = 0; i < full.size(); ++i) {
        if (full[i].id % 3 == 1) continue;
        EXPECT_EQ(part[i].id, full[i].id);
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 250);
}

// exactness.md's trap: a noise that rounds to infinity would win here once in a while.
TEST(ShardSamplerTest, ALikelyTokenIsAlwaysDrawnFromALargeVocabulary) {
  std::vector<float> logits(128256, -30.0f);
  logits[77777] = 0;
  const SamplingParams params{.temperature = 1, .seed = 9};
  std::vector<TokenId> history(400, 1);
  auto backend = CreateCpuBackend({});
  ShardSampler sampler(backend.get(), {.begin = 0, .end = 128256}, 1);
  for (int position = 1; position <= 400; ++position) {
    std::vector<float> row_logits = logits;
    const SampleRow row{&params, absl::MakeConstSpan(history).first(position), 1, {}};
    const auto drawn =
        sampler.Sample(TensorView(row_logits.data(), DType::kF32, {1, 128256}), {&row, 1},
                       [](absl::Span<const std::byte> send, absl::Span<std::byte> recv) {
                         std::copy(send.begin(), send.end(), recv.begin());
                         return absl::OkStatus();
                       });
    ASSERT_EQ((*drawn)[0].id, 77777) << position;
  }
}

}  // namespace
}  // namespace krait
