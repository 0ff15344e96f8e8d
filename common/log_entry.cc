#include "common/log_entry.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/log_format.h"
#include "common/strings.h"

namespace krait {
namespace {

constexpr size_t kMaxNumberDigits = 15;  // exact in a double, which is what JSON readers have

constexpr const char* kSeverities[] = {"INFO", "WARNING", "ERROR", "FATAL"};

std::string Cut(std::string text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  text.resize(max_bytes - 3);
  return text + "...";
}

// The next word: up to a space that is not inside double quotes. Removes it from `rest`.
std::string_view TakeWord(std::string_view& rest) {
  rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  bool quoted = false;
  size_t end = 0;
  for (; end < rest.size() && (quoted || rest[end] != ' '); ++end) {
    if (quoted && rest[end] == '\\') {
      end = std::min(end + 1, rest.size() - 1);
    } else if (rest[end] == '"') {
      quoted = !quoted;
    }
  }
  const std::string_view word = rest.substr(0, end);
  rest.remove_prefix(end);
  return word;
}

bool IsKey(std::string_view word) {
  return !word.empty() && std::all_of(word.begin(), word.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || c == '_' || c == '.';
  });
}

bool IsNumber(std::string_view word) {
  if (word.empty() || word.size() > kMaxNumberDigits) return false;
  if (word.size() > 1 && word[0] == '0') return false;
  return std::all_of(word.begin(), word.end(), absl::ascii_isdigit);
}

// ASCII only: U+2028 and its like end a line for some readers.
std::string Quote(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', /*ensure_ascii=*/true,
                                   nlohmann::json::error_handler_t::replace);
}

// What LogText escaped is unescaped: JSON escapes in its own way.
std::string JsonOf(std::string_view value) {
  if (IsNumber(value)) return std::string(value);
  if (value.size() >= 2 && value.front() == '"' && value.back() == '"') {
    std::string plain;
    if (absl::CUnescape(ToAbsl(value.substr(1, value.size() - 2)), &plain)) return Quote(plain);
  }
  return Quote(value);
}

class JsonLine {
 public:
  explicit JsonLine(std::string head) : line_(std::move(head)) {}

  void AddWords(std::string_view words) {
    while (true) {
      const std::string_view word = TakeWord(words);
      if (word.empty()) return;
      const size_t equals = word.find('=');
      if (equals != std::string_view::npos && IsKey(word.substr(0, equals))) {
        Add(std::string(word.substr(0, equals)), JsonOf(word.substr(equals + 1)));
      } else {
        absl::StrAppend(&text_, text_.empty() ? "" : " ", ToAbsl(word));
      }
    }
  }

  std::string Finish() {
    if (!text_.empty()) Add("text", Quote(Cut(std::move(text_), kMaxLogLineBytes / 8)));
    return line_ + "}\n";
  }

 private:
  // Fields that would make the line too long are left out: half a JSON object is of no use.
  void Add(std::string key, const std::string& value) {
    while (!keys_.insert(key).second) key += "_";
    const size_t room = kMaxLogLineBytes - std::min<size_t>(kMaxLogLineBytes, line_.size() + 8);
    if (key.size() + value.size() > room) return;
    absl::StrAppend(&line_, ",\"", key, "\":", value);
  }

  std::string line_;
  std::set<std::string> keys_ = {"time", "severity", "pid", "source"};
  std::string text_;
};

}  // namespace

std::string FormatText(const LogEntry& entry) {
  std::string text = entry.message;
  for (char& c : text) {
    if (c == '\n' || c == '\r') c = ' ';  // one entry is one line, whatever a caller put in
  }
  std::string line =
      absl::StrCat(absl::string_view(kSeverities[static_cast<int>(entry.severity)], 1), " ",
                   entry.time, " ", entry.pid, " ", ToAbsl(entry.file), ":", entry.line, "] ",
                   entry.prefix, entry.prefix.empty() ? "" : " ", text);
  return Cut(std::move(line), kMaxLogLineBytes - 1) + "\n";
}

std::string FormatJson(const LogEntry& entry) {
  JsonLine line(absl::StrCat("{\"time\":\"", entry.time, "\",\"severity\":\"",
                             kSeverities[static_cast<int>(entry.severity)],
                             "\",\"pid\":", entry.pid, ",\"source\":\"", ToAbsl(entry.file), ":",
                             entry.line, "\""));
  line.AddWords(entry.prefix);
  line.AddWords(entry.message);
  return line.Finish();
}

}  // namespace krait
