#pragma once

#include <string>

namespace krait {

// A tiny random Llama on disk, made once a process: 9 heads in 3 KV groups, 2,048 tokens of
// context, large enough that a stream of a thousand tokens takes a good part of a second.
const std::string& TargetModel();

// The same, but for one token: whoever has it in his history overflows.
constexpr int kOverflowToken = 400;
const std::string& OverflowModel();

// Drafts for the target: "self" (the same weights), "noisy" (agrees often), "cut" (`krait-engine
// convert
// --layers`), "other_tokenizer" (must be refused).
std::string DraftModel(const std::string& kind);

// The same for a tiny hybrid of attention, Mamba1 and Mamba2 layers; drafts "self", "noisy" and
// "cut".
const std::string& HybridTargetModel();
std::string HybridDraftModel(const std::string& kind);

}  // namespace krait
