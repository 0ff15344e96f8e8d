#include "worker/tools/bench_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace krait {
namespace {

void AppendMachine(const BenchReport& report, std::string& text) {
  absl::StrAppendFormat(&text, "threads %d, ranks %d, weights %s\n", report.threads, report.ranks,
                        report.weight_dtype);
  absl::StrAppendFormat(
      &text, "read bandwidth of the device, in turns with the steps: median %.1f GB/s, best %.1f\n",
      report.read_bandwidth / 1e9, report.best_read_bandwidth / 1e9);
  absl::StrAppendFormat(&text, "bytes a step: weights %.1f MB\n", report.weight_bytes / 1e6);
  if (report.layers > 0) {
    absl::StrAppendFormat(&text,
                          "measured with %d of %d layers and %d of %d token ids; bytes of states "
                          "below are of all layers\n",
                          report.layers, report.all_layers, report.vocab_size,
                          report.all_vocab_size);
  }
}

void AppendBatches(const BenchReport& report, std::string& text) {
  absl::StrAppendFormat(&text, "\n%5s %10s %10s %8s %8s %9s %9s %9s\n", "batch", "step ms",
                        "tokens/s", "KV MB", "state MB", "GB/s", "read GB/s", "fraction");
  for (const BatchResult& batch : report.batches) {
    absl::StrAppendFormat(&text, "%5d %10.3f %10.1f %8.2f %8.2f %9.1f %9.1f %9.3f\n", batch.batch,
                          batch.step_seconds * 1e3, batch.tokens_per_second, batch.kv_bytes / 1e6,
                          batch.state_bytes / 1e6, report.BytesPerSecond(batch) / 1e9,
                          batch.read_bandwidth / 1e9, report.BandwidthFraction(batch));
  }
}

void AppendStates(const BenchReport& report, std::string& text) {
  for (const MixerResult& mixer : report.mixers) {
    absl::StrAppendFormat(&text, "\n%d layers of %s: a state of %d bytes, ", mixer.layers,
                          mixer.name, mixer.state_bytes);
    absl::StrAppend(&text,
                    mixer.fold_interval == 0
                        ? "written every step"
                        : absl::StrCat("folded every W = ", mixer.fold_interval, " tokens"),
                    "; ring entries of ", mixer.entry_bytes, " bytes\n");
  }
  for (const StateResult& state : report.states) {
    const double formula = state.Formula(report.mixers), bytes = state.of_states();
    absl::StrAppendFormat(&text,
                          "K = %d, %.2f tokens a step: states read %.0f, written %.0f; rings read "
                          "%.0f, written %.0f; in all %.0f bytes a step and sequence",
                          state.num_draft_tokens, state.tokens_per_step, state.state_read,
                          state.state_written, state.ring_read, state.ring_written, bytes);
    if (formula > 0) absl::StrAppendFormat(&text, ", %.3f of the formula's", bytes / formula);
    absl::StrAppendFormat(&text, "; snapshots move %.2f times as many\n",
                          state.Snapshots(report.mixers) / bytes);
  }
}

void AppendRows(const BenchReport& report, std::string& text) {
  if (report.row_seconds.empty()) return;
  absl::StrAppendFormat(&text, "\n%5s %10s %10s\n", "rows", "step ms", "of one");
  for (size_t i = 0; i < report.row_seconds.size(); ++i) {
    absl::StrAppendFormat(&text, "%5u %10.3f %10.2f\n", i + 1, report.row_seconds[i] * 1e3,
                          report.row_seconds[i] / report.row_seconds[0]);
  }
}

void AppendDraft(const DraftResult& draft, std::string& text) {
  absl::StrAppendFormat(&text,
                        "\ndraft %s: %.1f tokens/s, without %.1f; ratio median %.3f, first run "
                        "%.3f, worst %.3f; acceptance %.3f; same tokens: %s\n",
                        draft.draft, draft.tokens_per_second, draft.plain_tokens_per_second,
                        draft.MedianRatio(), draft.ratios[0],
                        *std::min_element(draft.ratios.begin(), draft.ratios.end()),
                        draft.acceptance, draft.same_tokens ? "yes" : "NO");
  absl::StrAppend(&text, "K by round of the first run: ", absl::StrJoin(draft.drafts_by_round, " "),
                  "\n");
}

}  // namespace

std::string BenchTable(const BenchReport& report) {
  std::string text;
  AppendMachine(report, text);
  AppendBatches(report, text);
  AppendStates(report, text);
  AppendRows(report, text);
  for (const DraftResult& draft : report.drafts) AppendDraft(draft, text);
  return text;
}

}  // namespace krait
