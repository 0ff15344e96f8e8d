#pragma once

// The command lines of the tools `krait` and `krait-engine`: one CLI11 application with
// subcommands.

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "absl/types/span.h"

namespace krait {

// One subcommand. `name` may have two words: "bench serve" is below "bench".
struct Subcommand {
  const char* name;
  const char* summary;
  // Declares the options on `app`. What it returns runs once they are parsed; it returns the exit
  // code.
  std::function<int()> (*declare)(CLI::App& app);
};

// Parses the command line and runs the subcommand that it names. --help and --version work
// everywhere; of an option that is given twice the last value counts. A usage error prints one line
// that names option and limit, and returns kExitUsage.
int RunSubcommands(const char* program, const char* description,
                   absl::Span<const Subcommand> subcommands, int argc, const char* const* argv);

// A validator of unsigned options: CLI11 2.1 would take -1 for 2^64 - 1.
std::string CheckNotNegative(const std::string& text);

// The conventions above, for an application of one's own.
void SetUpApp(CLI::App& app, const std::string& version_line);

}  // namespace krait
