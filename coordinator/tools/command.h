#pragma once

// Every subcommand of `krait` is one file: it adds its options to the program's parser and says
// what to run when it is chosen. krait_main.cc holds the table.

#include <CLI/CLI.hpp>
#include <functional>

namespace krait {

// What the chosen subcommand does; returns the process's exit code (common/build_info.h).
using CommandRun = std::function<int()>;

void AddUpCommand(CLI::App& app, CommandRun& run);
void AddGenerateCommand(CLI::App& app, CommandRun& run);
void AddStatusCommand(CLI::App& app, CommandRun& run);
// inspect, convert and bench: run by `krait-engine` in this program's place.
void AddEngineCommands(CLI::App& app, CommandRun& run);

}  // namespace krait
