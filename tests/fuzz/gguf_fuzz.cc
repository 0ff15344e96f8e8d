// The header of a GGUF file: whatever it says, accepted tensors lie inside the file.

#include "common/gguf_reader.h"
#include "common/logging.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/memory_file.h"
#include "tests/support/gguf_writer.h"

namespace krait {
namespace {

constexpr uint32_t kF32 = 0;
constexpr uint32_t kQ4_0 = 2;
constexpr uint32_t kQ8_0 = 8;
constexpr uint32_t kArray = 9;

testing::GgufWriter SmallFile() {
  testing::GgufWriter writer;
  writer.AddString("general.architecture", "llama");
  writer.AddUint32("llama.block_count", 2);
  writer.AddFloat32("llama.rope.freq_base", 10000.0f);
  writer.AddBool("tokenizer.ggml.add_bos_token", true);
  writer.AddStrings("tokenizer.ggml.tokens", {"x", "", "yz"});
  writer.AddInt32s("tokenizer.ggml.token_type", {1, -2});
  writer.AddTensor("token_embd.weight", kF32, {4, 2}, std::string(32, 'x'));
  writer.AddTensor("blk.0.attn_q.weight", kQ8_0, {32}, std::string(34, 'y'));
  writer.AddTensor("blk.0.attn_k.weight", kQ4_0, {32, 2}, std::string(36, 'z'));
  return writer;
}

}  // namespace

void FuzzOne(std::string_view input) {
  const MemoryFile memory(input);
  const auto header = GgufHeader::Read(memory.path());
  if (!header.ok()) return;
  for (const GgufTensorInfo& tensor : header->tensors()) {
    CHECK_LE(tensor.offset, input.size());
    CHECK_LE(tensor.num_bytes, input.size() - tensor.offset);
  }
  for (const auto& [key, value] : header->metadata()) {
    (void)header->GetInt(key);
    (void)header->GetFloat(key);
    (void)header->GetString(key);
    (void)header->GetBool(key);
    header->GetInts(key);
    header->GetFloats(key);
  }
}

std::vector<std::string> FuzzSeeds() {
  std::vector<std::string> seeds;
  for (uint32_t version : {2u, 3u}) {
    testing::GgufWriter writer = SmallFile();
    writer.version = version;
    seeds.push_back(writer.Bytes());
  }
  testing::GgufWriter aligned = SmallFile();
  aligned.alignment = 64;
  aligned.AddUint32("general.alignment", 64);
  seeds.push_back(aligned.Bytes());
  testing::GgufWriter nested;
  nested.AddRaw("a", kArray, std::string("\x09\0\0\0\x02\0\0\0\0\0\0\0", 12));
  seeds.push_back(nested.Bytes());
  testing::GgufWriter far;
  far.AddTensorAt("t", kF32, {uint64_t{1} << 62, 4}, uint64_t{1} << 63);
  seeds.push_back(far.Bytes());
  return seeds;
}

}  // namespace krait
