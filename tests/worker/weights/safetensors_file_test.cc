#include "worker/weights/safetensors_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <random>

#include "absl/strings/str_cat.h"
#include "worker/weights/safetensors_writer.h"

namespace krait {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string WithLength(const std::string& header, const std::string& data) {
  const uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + header + data;
}

absl::StatusOr<std::vector<SafetensorsTensor>> Read(const std::string& bytes) {
  const std::string path = ::testing::TempDir() + "/file_test.safetensors";
  std::remove(path.c_str());  // a new file: cutting the old one makes some file systems flush
  std::ofstream(path, std::ios::binary) << bytes;
  const absl::StatusOr<InputFile> file = InputFile::Open(path);
  if (!file.ok()) return file.status();
  return ReadSafetensorsHeader(*file);
}

std::string ErrorOf(const std::string& bytes) {
  const absl::Status status = Read(bytes).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(status.message(), HasSubstr("file_test.safetensors: "));
  return std::string(status.message());
}

std::string Row(const char* name, const char* dtype, const char* shape, int begin, int end) {
  return absl::StrCat("\"", name, R"(":{"dtype":")", dtype, R"(","shape":)", shape,
                      R"(,"data_offsets":[)", begin, ",", end, "]}");
}

TEST(SafetensorsFileTest, ReadsTensorsInFileOrder) {
  const std::string header = absl::StrCat(
      R"({"__metadata__":{"format":"pt"},)", Row("b", "BF16", "[2,3]", 4, 16), ",",
      Row("scalar", "F32", "[]", 0, 4), ",", Row("empty", "I64", "[0,7]", 16, 16), "}  ");
  const auto tensors = Read(WithLength(header, std::string(16, 'x')));
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 3u);
  EXPECT_EQ((*tensors)[0].name, "scalar");
  EXPECT_EQ((*tensors)[0].offset, 8 + header.size());
  EXPECT_EQ((*tensors)[1].name, "b");
  EXPECT_THAT((*tensors)[1].shape, ElementsAre(2, 3));
  EXPECT_EQ((*tensors)[1].num_bytes, 12u);
  EXPECT_EQ((*tensors)[2].num_bytes, 0u);
}

TEST(SafetensorsFileTest, RefusesBadLengths) {
  EXPECT_THAT(ErrorOf("1234567"), HasSubstr("7 bytes are no safetensors file"));
  EXPECT_THAT(ErrorOf(std::string(8, '\xff') + "{}"), HasSubstr("header of 18446744073709551615"));
  EXPECT_THAT(ErrorOf(WithLength("{}", "").substr(0, 9)), HasSubstr("header of 2 bytes in a file"));
}

TEST(SafetensorsFileTest, RefusesHeadersThatAreNoPaddedObject) {
  EXPECT_NE(ErrorOf(WithLength("[]", "")), "");
  EXPECT_NE(ErrorOf(WithLength("x{}", "")), "");
  EXPECT_NE(ErrorOf(WithLength("{}\n", "")), "");
  EXPECT_NE(ErrorOf(WithLength("{} {}", "")), "");
  EXPECT_NE(ErrorOf(WithLength("{\"\xff\":1}", "")), "");
  EXPECT_NE(ErrorOf(WithLength("", "")), "");
  EXPECT_TRUE(Read(WithLength(" \n\t{}   ", "")).ok());
}

TEST(SafetensorsFileTest, RefusesDuplicateNames) {
  const std::string header =
      absl::StrCat("{", Row("a", "U8", "[1]", 0, 1), ",", Row("a", "U8", "[1]", 1, 2), "}");
  EXPECT_THAT(ErrorOf(WithLength(header, "xy")), HasSubstr("duplicate key \"a\""));
}

struct BadRow {
  const char* row;
  const char* reason;
};

class SafetensorsRowTest : public ::testing::TestWithParam<BadRow> {};

TEST_P(SafetensorsRowTest, IsRefusedWithItsReason) {
  const std::string bytes =
      WithLength(absl::StrCat("{\"t\":", GetParam().row, "}"), std::string(8, 'x'));
  EXPECT_THAT(ErrorOf(bytes), HasSubstr(absl::StrCat("tensor t: ", GetParam().reason)));
}

INSTANTIATE_TEST_SUITE_P(
    BadRows, SafetensorsRowTest,
    ::testing::Values(
        BadRow{"3", "its entry is no object"},
        BadRow{R"({"dtype":"F7","shape":[2],"data_offsets":[0,8]})", "unknown dtype \"F7\""},
        BadRow{R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})", "data_offsets span 8 bytes"},
        BadRow{R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})", "data_offsets are no begin"},
        BadRow{R"({"dtype":"F32","shape":[2],"data_offsets":[0]})", "data_offsets are no begin"},
        BadRow{R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})", "shape holds something"},
        BadRow{R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})", "shape holds something"},
        BadRow{R"({"dtype":"F32","shape":[-0],"data_offsets":[0,0]})", "shape holds something"},
        BadRow{R"({"dtype":"U8","shape":[8],"data_offsets":[0,8e0]})", "data_offsets holds"},
        BadRow{R"({"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8]})",
               "shape [4294967296, 4294967296, 2] overflows"},
        BadRow{R"({"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,8]})", "shape "},
        BadRow{R"({"dtype":"U8","shape":[1,1,1,1,1,1,1,1,8],"data_offsets":[0,8]})", "9 dim"},
        BadRow{R"({"dtype":"U8","shape":[8],"data_offsets":[0,8],"x":1})", "unknown field \"x\""},
        BadRow{R"({"dtype":"U8","shape":[8],"data_offsets":[1,9]})", "leaves a hole"},
        BadRow{R"({"dtype":"U8","shape":[9],"data_offsets":[0,9]})", "ends at byte"}));

TEST(SafetensorsFileTest, RefusesOverlapAndTrailingBytes) {
  const std::string overlap =
      absl::StrCat("{", Row("a", "U8", "[4]", 0, 4), ",", Row("b", "U8", "[4]", 2, 6), "}");
  EXPECT_THAT(ErrorOf(WithLength(overlap, "123456")), HasSubstr("tensor b: overlaps"));
  const std::string fine = absl::StrCat("{", Row("a", "U8", "[4]", 0, 4), "}");
  EXPECT_THAT(ErrorOf(WithLength(fine, "12345")), HasSubstr("1 bytes follow the last tensor"));
  EXPECT_THAT(ErrorOf(WithLength(R"({"__metadata__":{"a":1}})", "")), HasSubstr("a is no string"));
}

TEST(SafetensorsFileTest, RandomDamageIsReadOrRefusedNeverFatal) {
  const std::string bytes = WithLength(
      absl::StrCat("{", Row("a", "F32", "[2]", 0, 8), ",", Row("b", "U8", "[3]", 8, 11), "}"),
      std::string(11, 'x'));
  std::mt19937_64 random(3);
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string broken = bytes;
    broken[random() % broken.size()] = static_cast<char>(random());
    if (random() % 4 == 0) broken.resize(random() % broken.size());
    refused += Read(broken).ok() ? 0 : 1;
  }
  EXPECT_GT(refused, 1500);
}

TEST(SafetensorsWriterTest, WritesWhatTheReaderAccepts) {
  const std::string path = ::testing::TempDir() + "/writer_test.safetensors";
  std::remove(path.c_str());
  auto writer = SafetensorsWriter::Create(
      path, {{"a\"b", DType::kF32, {2, 2}}, {"c", DType::kBF16, {3}}, {"d", DType::kF16, {1}}});
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(writer->AppendFloats(DType::kF32, {1, 2}).ok());
  ASSERT_TRUE(writer->AppendFloats(DType::kF32, {3, 4}).ok());
  ASSERT_TRUE(writer->AppendFloats(DType::kBF16, {1.0f, 1.00390625f, 1.01171875f}).ok());
  ASSERT_TRUE(writer->AppendFloats(DType::kF16, {0.5f}).ok());
  ASSERT_TRUE(writer->Finish().ok());
  const auto file = InputFile::Open(path);
  const auto tensors = ReadSafetensorsHeader(*file);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 3u);
  EXPECT_EQ((*tensors)[0].name, "a\"b");
  EXPECT_EQ((*tensors)[0].offset % 64, 0u);
  uint16_t halves[4];
  ASSERT_TRUE(file->ReadAt((*tensors)[1].offset,
                           absl::MakeSpan(reinterpret_cast<char*>(halves), sizeof(halves)))
                  .ok());
  // 1 + 2^-8 is a tie and goes to the even 1.0; 1 + 3 * 2^-8 is a tie and goes up.
  EXPECT_THAT(halves, ElementsAre(0x3f80, 0x3f80, 0x3f82, 0x3800));
  EXPECT_EQ(SafetensorsWriter::Create(path, {}).status().code(), absl::StatusCode::kAlreadyExists);
}

}  // namespace
}  // namespace krait
