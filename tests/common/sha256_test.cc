#include "common/sha256.h"

#include <gtest/gtest.h>

namespace krait {
namespace {

// FIPS 180-4's examples: https://csrc.nist.gov/projects/cryptographic-standards-and-guidelines
TEST(Sha256Test, MatchesPublishedVectors) {
  EXPECT_EQ(Sha256().FinishHex(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  Sha256 abc;
  abc.Update("a");
  abc.Update("bc");
  EXPECT_EQ(abc.FinishHex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256Test, FieldsKeepTheirBorders) {
  Sha256 a, b;
  a.UpdateField("ab");
  a.UpdateField("c");
  b.UpdateField("a");
  b.UpdateField("bc");
  EXPECT_NE(a.FinishHex(), b.FinishHex());
}

TEST(Sha256Test, IntegersAreEightLittleEndianBytes) {
  Sha256 a, b;
  a.UpdateInt(0x0102);
  b.Update(std::string_view("\x02\x01\0\0\0\0\0\0", 8));
  EXPECT_EQ(a.FinishHex(), b.FinishHex());
}

}  // namespace
}  // namespace krait
