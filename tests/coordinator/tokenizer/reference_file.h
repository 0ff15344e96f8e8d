#pragma once

// Reads what make_reference.py and make_kinds_reference.py write.

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "common/json.h"
#include "common/token.h"

namespace krait::testing {

struct ReferenceLine {
  std::string text;
  std::vector<TokenId> ids;
};

// A string, or a list of [string, times].
inline std::string ReferenceText(const JsonValue& value) {
  if (value.is_string()) return value.as_string();
  std::string text;
  for (const JsonValue& run : value.as_array()) {
    for (int64_t i = 0; i < run.as_array()[1].as_int(); ++i) text += run.as_array()[0].as_string();
  }
  return text;
}

// "5 7,8*2" is 5 7 8 7 8.
inline std::vector<TokenId> ReferenceIds(const std::string& text) {
  std::vector<TokenId> ids;
  for (absl::string_view group : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    const std::vector<absl::string_view> parts = absl::StrSplit(group, '*');
    int times = 1;
    if (parts.size() == 2) {
      EXPECT_TRUE(absl::SimpleAtoi(parts[1], &times));
    }
    for (; times > 0; --times) {
      for (absl::string_view number : absl::StrSplit(parts[0], ',')) {
        EXPECT_TRUE(absl::SimpleAtoi(number, &ids.emplace_back()));
      }
    }
  }
  return ids;
}

inline std::vector<ReferenceLine> ReadReference(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.is_open()) << path;
  std::vector<ReferenceLine> lines;
  for (std::string row; std::getline(file, row);) {
    const size_t tab = row.find('\t');
    const absl::StatusOr<JsonValue> value = ParseJson(row.substr(0, tab));
    EXPECT_TRUE(value.ok()) << value.status() << " in line " << lines.size() + 1;
    lines.push_back({ReferenceText(*value), ReferenceIds(row.substr(tab + 1))});
  }
  return lines;
}

}  // namespace krait::testing
