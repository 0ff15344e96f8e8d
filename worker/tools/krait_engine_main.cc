// krait-engine: what works on model files and on the engine without RPC. The `krait` tool starts it
// for its own subcommands of the same names.

#include "worker/tools/engine_tool.h"

int main(int argc, char** argv) { return krait::RunEngineTool(argc, argv); }
