#pragma once

// Sequences over one paged cache, for tests of attention.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/core/bf16.h"
#include "kernels/ops/paged_attention.h"
#include "tests/kernels/kernel_test_util.h"

namespace krait::kernels {

struct Sequence {
  int length = 0;       // keys in the cache
  int num_queries = 0;  // the last positions
};

inline std::vector<Bf16> ToBf16s(const std::vector<float>& values) {
  std::vector<Bf16> rounded;
  rounded.reserve(values.size());
  for (const float value : values) rounded.push_back(ToBf16(value));
  return rounded;
}

// Sequences over one cache; every slot that no position owns holds NaN.
struct Scene {
  Scene(int heads, int kv_heads, int head_dim, int page_size, std::vector<Sequence> seqs);

  int64_t KvOffset(int sequence, int position, int kv_head) const {
    const int page = page_table[sequence * stride + position / page_size];
    return ((int64_t{page} * kv_heads + kv_head) * page_size + position % page_size) * head_dim;
  }
  // Queries of `tokens` alone, as one call. A bf16 cache wants RoundCache first.
  std::vector<float> Run(Backend& backend, const std::vector<int>& tokens,
                         DType cache_type = DType::kF32);
  // The first position that a token sees.
  int FirstKey(int token) const {
    return window == 0 ? 0 : std::max(0, positions[token] + 1 - window);
  }
  // Fills everything that no token sees with NaN.
  void PoisonUnseenKeys();
  // Keys and values that a cache in bf16 can hold.
  void RoundCache();
  double Oracle(int token, int head, int d) const;

  int heads, kv_heads, head_dim, page_size;
  int window = 0;
  std::vector<Sequence> sequences;
  int stride = 0, num_pages = 0, num_tokens = 0;
  std::vector<int32_t> page_table;
  std::vector<int> sequence_of;  // of each token
  std::vector<int32_t> positions;
  std::vector<float> q, k, v;
};

inline Scene::Scene(int heads, int kv_heads, int head_dim, int page_size,
                    std::vector<Sequence> seqs)
    : heads(heads), kv_heads(kv_heads), head_dim(head_dim), page_size(page_size), sequences(seqs) {
  for (const Sequence& s : sequences) stride = std::max(stride, s.length / page_size + 1);
  num_pages = stride * static_cast<int>(sequences.size()) + 1;
  for (int i = 0; i < num_pages - 1; ++i) page_table.push_back(i);
  std::mt19937 generator(1);
  std::shuffle(page_table.begin(), page_table.end(), generator);
  const int64_t elements = int64_t{num_pages} * kv_heads * page_size * head_dim;
  k.assign(elements, std::numeric_limits<float>::quiet_NaN());
  v = k;
  for (size_t s = 0; s < sequences.size(); ++s) {
    for (int position = 0; position < sequences[s].length; ++position) {
      for (int head = 0; head < kv_heads; ++head) {
        const uint32_t seed = static_cast<uint32_t>((s * 10000 + position) * 16 + head);
        const std::vector<float> row = Gaussian(2 * head_dim, seed);
        const int64_t at = KvOffset(static_cast<int>(s), position, head);
        std::copy(row.begin(), row.begin() + head_dim, k.begin() + at);
        std::copy(row.begin() + head_dim, row.end(), v.begin() + at);
      }
      if (position < sequences[s].length - sequences[s].num_queries) continue;
      sequence_of.push_back(static_cast<int>(s));
      positions.push_back(position);
    }
  }
  num_tokens = static_cast<int>(positions.size());
  q = Gaussian(int64_t{num_tokens} * heads * head_dim, 99);
}

inline std::vector<float> Scene::Run(Backend& backend, const std::vector<int>& tokens,
                                     DType cache_type) {
  const int64_t width = int64_t{heads} * head_dim;
  std::vector<float> q_part, out(tokens.size() * width, NAN);
  std::vector<int32_t> position_part, query_start = {0}, table;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int token = tokens[i];
    q_part.insert(q_part.end(), q.begin() + token * width, q.begin() + (token + 1) * width);
    position_part.push_back(positions[token]);
    if (i == 0 || sequence_of[token] != sequence_of[tokens[i - 1]]) {
      if (i > 0) query_start.push_back(static_cast<int32_t>(i));
      const auto row = page_table.begin() + sequence_of[token] * stride;
      table.insert(table.end(), row, row + stride);
    }
  }
  query_start.push_back(static_cast<int32_t>(tokens.size()));
  const Shape cache = {num_pages, kv_heads, page_size, head_dim};
  std::vector<Bf16> k_rounded, v_rounded;
  if (cache_type == DType::kBF16) k_rounded = ToBf16s(k), v_rounded = ToBf16s(v);
  const auto view = [&](std::vector<float>& full, std::vector<Bf16>& rounded) {
    void* data = cache_type == DType::kBF16 ? static_cast<void*>(rounded.data()) : full.data();
    return TensorView(data, cache_type, cache);
  };
  backend.PagedAttention({.q = TensorView(q_part.data(), DType::kF32,
                                          {static_cast<int64_t>(tokens.size()), heads, head_dim}),
                          .k_cache = view(k, k_rounded),
                          .v_cache = view(v, v_rounded),
                          .num_sequences = static_cast<int>(query_start.size()) - 1,
                          .query_start = query_start.data(),
                          .positions = position_part.data(),
                          .page_table = table.data(),
                          .page_table_stride = stride,
                          .scale = 1.0f / std::sqrt(static_cast<float>(head_dim)),
                          .window = window,
                          .out = Matrix(out, tokens.size(), width)});
  return out;
}

inline void Scene::PoisonUnseenKeys() {
  std::vector<int> first_seen(sequences.size(), std::numeric_limits<int>::max());
  for (int token = 0; token < num_tokens; ++token) {
    int& first = first_seen[sequence_of[token]];
    first = std::min(first, FirstKey(token));
  }
  for (size_t s = 0; s < sequences.size(); ++s) {
    for (int position = 0; position < std::min(first_seen[s], sequences[s].length); ++position) {
      for (int head = 0; head < kv_heads; ++head) {
        const int64_t at = KvOffset(static_cast<int>(s), position, head);
        std::fill_n(k.begin() + at, head_dim, std::numeric_limits<float>::quiet_NaN());
        std::fill_n(v.begin() + at, head_dim, std::numeric_limits<float>::quiet_NaN());
      }
    }
  }
}

inline void Scene::RoundCache() {
  for (std::vector<float>* each : {&k, &v}) {
    for (float& value : *each) value = FromBf16(ToBf16(value));
  }
}

inline double Scene::Oracle(int token, int head, int d) const {
  const float* query = q.data() + (int64_t{token} * heads + head) * head_dim;
  const int kv_head = head / (heads / kv_heads);
  double sum = 0, weighted = 0;
  for (int position = FirstKey(token); position <= positions[token]; ++position) {
    const int64_t at = KvOffset(sequence_of[token], position, kv_head);
    double dot = 0;
    for (int i = 0; i < head_dim; ++i) dot += double{query[i]} * k[at + i];
    const double p = std::exp(dot / std::sqrt(static_cast<double>(head_dim)));
    sum += p;
    weighted += p * v[at + d];
  }
  return weighted / sum;
}

inline std::vector<int> AllTokens(const Scene& scene) {
  std::vector<int> tokens(scene.num_tokens);
  for (int i = 0; i < scene.num_tokens; ++i) tokens[i] = i;
  return tokens;
}

}  // namespace krait::kernels
