#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "coordinator/tools/arguments.h"

namespace krait {

// A subcommand of `krait`: its words after the name in, an exit code out.
using CommandWords = std::vector<std::string>;
int RunUp(const CommandWords& words);
int RunGenerate(const CommandWords& words);
int RunStatus(const CommandWords& words);
int RunDrain(const CommandWords& words);
// Hand over to the krait-engine beside this binary; return only if it cannot be started.
int RunInspect(const CommandWords& words);
int RunConvert(const CommandWords& words);
int RunBench(const CommandWords& words);

struct Command {
  const char* name;
  const char* summary;
  int (*run)(const CommandWords& words);
};

// Every subcommand, in the order of --help.
absl::Span<const Command> Commands();

// What `krait WORDS...` does.
int RunKrait(const CommandWords& words);

// "krait <command>: <message>" on standard error; returns the exit code that fits the status.
int FailCommand(const char* command, const absl::Status& status);

inline constexpr char kDefaultCoordinator[] = "127.0.0.1:50051";
inline constexpr FlagSpec kCoordinatorFlag = {
    "coordinator", "ADDRESS", "the coordinator's host:port (default 127.0.0.1:50051)"};
inline constexpr FlagSpec kAddressFlag = {"address", "ADDRESS", "the same"};
inline constexpr FlagSpec kHelpFlag = {"help", nullptr, "this text"};

// The value of --coordinator or --address.
std::string CoordinatorAddress(const Arguments& arguments);

}  // namespace krait
