#pragma once

#include <cstdint>

namespace krait {

// Whose recurrent state the new tokens of a pass continue. Shared by the ops that keep a state of
// their own in a slot (ops/causal_conv1d.h, ops/selective_scan.h, ops/selective_state_update.h).
//
// A slot is never copied and never rolled back. What is stored depends on final tokens only: those
// that the sequence has for good. Inputs of tokens after them lie in rings, at the token's position
// modulo the ring's length; a rejected token's entry is overwritten by the next token of its
// position. So "commit j of k drafts" is: the next call's first_position is j further on.
struct RecurrentBatch {
  int num_sequences = 0;                    // S
  const int32_t* query_start = nullptr;     // [S + 1]: new tokens of each sequence
  const int32_t* slots = nullptr;           // [S]: state slot of each, no slot twice
  const int32_t* first_position = nullptr;  // [S]: absolute position of the first new token
  // [S]: tokens before this absolute position are final, whatever is accepted: prompt tokens and
  // all that were drawn. Those from it on are drafts, new ones or (where a draft model feeds its
  // own drafts one by one) earlier ones. At most the position after the last new token.
  const int32_t* final_position = nullptr;
  // [S]: final_position of the sequence's previous call, 0 in its first: how far the slot's stored
  // state has got. At 0 a slot's old content is not read.
  const int32_t* state_position = nullptr;
  // A tree of drafts: [total new tokens], for each the index, among its sequence's new tokens, of
  // the one before it; -1: the committed tokens. Parents come first, final tokens are a chain, and
  // no node reaches the next fold boundary. Ring entries lie in the order of the nodes. Null: each
  // token follows the one before it.
  const int32_t* parents = nullptr;
};

// Bytes of recurrent state that calls have moved, counted from what they did, not from a formula. A
// CUDA backend does not count.
struct StateTraffic {
  int64_t state_read = 0;
  int64_t state_written = 0;
  int64_t ring_read = 0;
  int64_t ring_written = 0;
  // Of the rings of CausalConv1d, which any way of keeping states needs.
  int64_t conv_read = 0;
  int64_t conv_written = 0;

  StateTraffic& operator+=(const StateTraffic& other) {
    state_read += other.state_read;
    state_written += other.state_written;
    ring_read += other.ring_read;
    ring_written += other.ring_written;
    conv_read += other.conv_read;
    conv_written += other.conv_written;
    return *this;
  }
  StateTraffic operator-(const StateTraffic& other) const {
    return {.state_read = state_read - other.state_read,
            .state_written = state_written - other.state_written,
            .ring_read = ring_read - other.ring_read,
            .ring_written = ring_written - other.ring_written,
            .conv_read = conv_read - other.conv_read,
            .conv_written = conv_written - other.conv_written};
  }
  // What keeping the state costs.
  int64_t of_states() const { return state_read + state_written + ring_read + ring_written; }
  int64_t total() const { return of_states() + conv_read + conv_written; }
};

}  // namespace krait
