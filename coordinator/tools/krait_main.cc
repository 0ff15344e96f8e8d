// krait: the command-line tool. One file a subcommand, all in command.cc's table.

#include "coordinator/tools/command.h"

int main(int argc, char** argv) { return krait::RunKrait(argc, argv); }
