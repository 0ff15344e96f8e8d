#pragma once

#include <cstdint>

#include "kernels/core/tensor.h"
#include "kernels/ops/draw_tokens.h"
#include "kernels/ops/recurrent_batch.h"

namespace krait {

// What a layer may read about the packed batch of one forward pass: T new tokens of S sequences,
// each sequence's tokens together and in order. Arrays are memory of the rank's device, belong to
// the batch packer and live for the pass.
struct ForwardContext {
  int64_t num_tokens = 0;              // T
  int num_sequences = 0;               // S
  const int32_t* token_ids = nullptr;  // [T]
  // Of a pass that begins before the draws of the last one have been read, as EmbeddingParams has
  // them; only of a group of one.
  const int32_t* token_sources = nullptr;  // [T]
  const TokenId* drawn = nullptr;
  const int32_t* positions = nullptr;     // [T], absolute
  const int32_t* query_start = nullptr;   // [S + 1]
  const int64_t* slot_mapping = nullptr;  // [T]: page * page_size + offset
  const int32_t* page_table = nullptr;    // [S, page_table_stride]
  int64_t page_table_stride = 0;
  // Whose recurrent states they continue; its slots are valid only if the model has such layers.
  RecurrentBatch recurrent;
  StateTraffic* traffic = nullptr;       // counts what recurrent layers move, if set
  const int32_t* logits_rows = nullptr;  // [num_logits]: tokens whose logits are wanted, increasing
  int64_t num_logits = 0;
  const DrawChoice* draw_choices = nullptr;  // [num_logits]; null: the pass draws nothing
  bool any_filtered_draw = false;            // of them
};

}  // namespace krait
