#include "common/gguf_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <random>

#include "tests/support/gguf_writer.h"

namespace krait {
namespace {

using ::testing::ElementsAre;
using testing::GgufWriter;
using ::testing::HasSubstr;

constexpr uint32_t kF32 = 0;
constexpr uint32_t kQ8_0 = 8;

std::string PathFor(const char* name) { return ::testing::TempDir() + "/" + name; }

absl::StatusOr<GgufHeader> ReadBytes(const std::string& bytes) {
  const std::string path = PathFor("reader_test.gguf");
  std::remove(path.c_str());  // a new file: cutting the old one makes some file systems flush
  std::ofstream(path, std::ios::binary) << bytes;
  return GgufHeader::Read(path);
}

std::string ErrorOf(const GgufWriter& writer) {
  const absl::Status status = ReadBytes(writer.Bytes()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(status.message(), HasSubstr("reader_test.gguf: "));
  return std::string(status.message());
}

template <typename T>
std::string Packed(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

GgufWriter SmallFile() {
  GgufWriter writer;
  writer.AddString("general.name", "small");
  writer.AddUint32("a.count", 7);
  writer.AddFloat32("a.scale", 0.5f);
  writer.AddBool("a.flag", true);
  writer.AddStrings("a.words", {"x", "", "yz"});
  writer.AddInt32s("a.numbers", {1, -2});
  writer.AddTensor("one", kF32, {4, 2}, std::string(32, 'x'));
  writer.AddTensor("two", kQ8_0, {32}, std::string(34, 'y'));
  return writer;
}

TEST(GgufReaderTest, ReadsMetadataAndTensorTable) {
  for (uint32_t version : {2u, 3u}) {
    GgufWriter writer = SmallFile();
    writer.version = version;
    const auto header = ReadBytes(writer.Bytes());
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(*header->GetString("general.name"), "small");
    EXPECT_EQ(*header->GetInt("a.count"), 7);
    EXPECT_EQ(*header->GetFloat("a.scale"), 0.5);
    EXPECT_TRUE(*header->GetBool("a.flag"));
    EXPECT_THAT(*header->FindStrings("a.words"), ElementsAre("x", "", "yz"));
    EXPECT_THAT(header->GetInts("a.numbers"), ElementsAre(1, -2));
    ASSERT_EQ(header->tensors().size(), 2u);
    EXPECT_THAT(header->tensors()[0].shape, ElementsAre(4, 2));
    EXPECT_EQ(header->tensors()[0].num_bytes, 32u);
    EXPECT_EQ(header->tensors()[1].num_bytes, 34u);
    EXPECT_EQ(header->tensors()[1].offset, header->tensors()[0].offset + 32);
    EXPECT_EQ(writer.Bytes()[header->tensors()[0].offset], 'x');
  }
}

TEST(GgufReaderTest, GettersNameFileAndKey) {
  const auto header = ReadBytes(SmallFile().Bytes());
  ASSERT_TRUE(header.ok());
  EXPECT_THAT(header->GetInt("a.missing").status().message(), HasSubstr("a.missing: missing"));
  EXPECT_THAT(header->GetInt("a.flag").status().message(), HasSubstr("a.flag: an integer wanted"));
  EXPECT_EQ(header->FindStrings("a.count"), nullptr);
  EXPECT_TRUE(header->GetInts("a.words").empty());
}

TEST(GgufReaderTest, EveryTruncationIsAnErrorNotACrash) {
  const std::string bytes = SmallFile().Bytes();
  const size_t last_data_byte = bytes.size() - 30;  // the rest is padding after "two"
  for (size_t size = 0; size < last_data_byte; ++size) {
    EXPECT_FALSE(ReadBytes(bytes.substr(0, size)).ok()) << size;
  }
  EXPECT_TRUE(ReadBytes(bytes.substr(0, last_data_byte)).ok());
}

TEST(GgufReaderTest, AnyOneWrongByteIsReadOrRefusedNeverFatal) {
  const std::string bytes = SmallFile().Bytes();
  std::mt19937_64 random(7);
  int refused = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (int round = 0; round < 4; ++round) {
      std::string broken = bytes;
      broken[i] = static_cast<char>(random());
      refused += ReadBytes(broken).ok() ? 0 : 1;
    }
  }
  EXPECT_GT(refused, 500);
}

TEST(GgufReaderTest, RefusesOtherFilesVersionsAndByteOrder) {
  EXPECT_THAT(ReadBytes("GGML" + std::string(64, '\0')).status().message(), HasSubstr("no GGUF"));
  GgufWriter writer = SmallFile();
  writer.version = 1;
  EXPECT_THAT(ErrorOf(writer), HasSubstr("GGUF version 1"));
  writer.version = 0x03000000;
  EXPECT_THAT(ErrorOf(writer), HasSubstr("big-endian"));
  EXPECT_EQ(GgufHeader::Read("/nonexistent.gguf").status().code(), absl::StatusCode::kNotFound);
}

TEST(GgufReaderTest, ChecksLengthsBeforeMemoryIsTaken) {
  GgufWriter string_length;
  string_length.AddRaw("k", 8, Packed<uint64_t>(uint64_t{1} << 60));
  EXPECT_THAT(ErrorOf(string_length), HasSubstr("k: string of 1152921504606846976 bytes"));

  GgufWriter array_length;
  array_length.AddRaw("k", 9, Packed<uint32_t>(10) + Packed<uint64_t>(uint64_t{1} << 61));
  EXPECT_THAT(ErrorOf(array_length), HasSubstr("k: array of 2305843009213693952 elements"));

  GgufWriter dims;
  dims.AddTensorAt("huge", kF32, {uint64_t{1} << 32, uint64_t{1} << 32}, 0);
  EXPECT_THAT(ErrorOf(dims), HasSubstr("tensor huge: dimension"));
}

TEST(GgufReaderTest, RefusesDuplicates) {
  GgufWriter keys;
  keys.AddUint32("twice", 1);
  keys.AddUint32("twice", 2);
  EXPECT_THAT(ErrorOf(keys), HasSubstr("twice: duplicate metadata key"));

  GgufWriter tensors;
  tensors.AddTensor("same", kF32, {1}, "abcd");
  tensors.AddTensor("same", kF32, {1}, "abcd");
  EXPECT_THAT(ErrorOf(tensors), HasSubstr("tensor same: duplicate name"));
}

TEST(GgufReaderTest, RefusesTensorsThatOverlapLeaveTheFileOrAreCrooked) {
  GgufWriter overlap;
  overlap.AddTensor("first", kF32, {16}, std::string(64, 'x'));
  overlap.AddTensorAt("second", kF32, {8}, 32);
  EXPECT_THAT(ErrorOf(overlap), HasSubstr("tensor second: overlaps tensor first"));

  GgufWriter outside;
  outside.AddTensorAt("far", kF32, {8}, 0);
  EXPECT_THAT(ErrorOf(outside), HasSubstr("tensor far: 32 bytes at data offset 0 end after"));

  GgufWriter crooked;
  crooked.AddTensor("pad", kF32, {16}, std::string(64, 'x'));
  crooked.AddTensorAt("crooked", kF32, {1}, 4);
  EXPECT_THAT(ErrorOf(crooked), HasSubstr("tensor crooked: offset 4 is not a multiple of 32"));
}

TEST(GgufReaderTest, RefusesUnknownTypesRanksAndPartialBlocks) {
  GgufWriter type;
  type.AddTensor("odd", 99, {32}, std::string(64, 'x'));
  EXPECT_THAT(ErrorOf(type), HasSubstr("tensor odd: unknown type 99"));
  GgufWriter rank;
  rank.AddTensor("deep", kF32, {1, 1, 1, 1, 1}, "abcd");
  EXPECT_THAT(ErrorOf(rank), HasSubstr("tensor deep: 5 dimensions"));
  GgufWriter block;
  block.AddTensor("cut", kQ8_0, {33}, std::string(64, 'x'));
  EXPECT_THAT(ErrorOf(block), HasSubstr("tensor cut: rows of 33 elements"));
  GgufWriter zero;
  zero.AddTensor("none", kF32, {0, 3}, "");
  EXPECT_THAT(ErrorOf(zero), HasSubstr("tensor none: dimension of 0"));
}

TEST(GgufReaderTest, HonoursAlignment) {
  GgufWriter writer = SmallFile();
  writer.alignment = 64;
  writer.AddUint32("general.alignment", 64);
  // The second tensor was placed at 32 by SmallFile's own alignment.
  EXPECT_THAT(ErrorOf(writer), HasSubstr("offset 32 is not a multiple of 64"));
  GgufWriter odd;
  odd.AddUint32("general.alignment", 48);
  EXPECT_THAT(ErrorOf(odd), HasSubstr("general.alignment: 48"));
}

}  // namespace
}  // namespace krait
