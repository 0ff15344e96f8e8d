#!/usr/bin/env python3
"""Writes krait/dashboards/*.json, for Grafana 10 and newer, from the tables below. A panel is a title, a
unit and pairs of expression and legend; every selector takes the filter S, or I where
there is no model. --check only says whether the files are fresh."""
import json
import pathlib
import sys

DASHBOARDS = pathlib.Path(__file__).resolve().parent / "krait" / "dashboards"
S = 'model_name=~"$model_name",instance=~"$instance"'
I = 'instance=~"$instance"'
RATE = "$__rate_interval"


def rate(metric, labels="", by="model_name"):
    return f"sum by ({by}) (rate({metric}{{{S}{labels}}}[{RATE}]))"


def quantiles(metric, labels=',role="coordinator"', by="model_name"):
    return [(f"histogram_quantile({q}, " + rate(f"{metric}_bucket", labels, f"{by}, le") + ")",
             f"{{{{{by}}}}} p{round(q * 100)}") for q in (0.5, 0.95, 0.99)]


def mean(metric, labels="", by="model_name"):
    return f"{rate(metric + '_sum', labels, by)} / {rate(metric + '_count', labels, by)}"


def total(metric, labels="", by="model_name"):
    return f"sum by ({by}) ({metric}{{{S}{labels}}})"


COORDINATOR = ',role="coordinator"'
TARGET = ',role="target"'
PHASE_MODEL = ',phase="model"'
GENERATE = ',method="Generate"'

BOARDS = {
    "overview": ("Overview", [
        ("Ready targets", "short", [(f'max by (model_name) (krait_workers{{{S},worker_role="target",state="ready"}})', "{{model_name}}")]),
        ("Error budget burnt, 1 h (1 = just as planned)", "short", [
            (f'model:krait_request_errors:ratio_rate1h{{model_name=~"$model_name"}} / 0.001', "{{model_name}}")]),
        ("Requests by code", "reqps", [(rate("krait_requests_total", GENERATE, "code"), "{{code}}")]),
        ("Tokens", "short", [(rate("krait_prompt_tokens_total"), "{{model_name}} prompt"),
                             (rate("krait_generation_tokens_total"), "{{model_name}} generated")]),
        ("Time to first token", "s", quantiles("krait_time_to_first_token_seconds")),
        ("Time between tokens", "s", quantiles("krait_inter_token_latency_seconds")),
        ("Whole requests", "s", quantiles("krait_e2e_request_latency_seconds")),
        ("Streams that ended well, by reason", "reqps", [
            (rate("krait_request_success_total", COORDINATOR, "finished_reason"), "{{finished_reason}}")]),
        ("Running and waiting", "short", [
            (total("krait_num_requests_running", COORDINATOR), "{{model_name}} running"),
            (total("krait_num_requests_waiting", COORDINATOR), "{{model_name}} waiting")]),
        ("Refused, by reason", "reqps", [(rate("krait_requests_rejected_total", "", "reason"), "{{reason}}")]),
    ]),
    "scheduler": ("Scheduler", [
        ("Running in the batch", "short", [(total("krait_num_requests_running", TARGET, "instance"), "{{instance}}")]),
        ("Waiting at workers", "short", [(total("krait_num_requests_waiting", TARGET, "instance"), "{{instance}}")]),
        ("Prompt tokens not yet prefilled", "short", [(total("krait_queued_tokens", "", "instance"), "{{instance}}")]),
        ("Time in the coordinator's queue", "s", quantiles("krait_request_queue_time_seconds")),
        ("Steps a second", "short", [(rate("krait_steps_total", "", "instance"), "{{instance}}")]),
        ("One step", "s", quantiles("krait_step_seconds", "", "instance")),
        ("Mean step by part", "s", [(mean("krait_step_phase_seconds", "", "phase"), "{{phase}}")]),
        ("Tokens of a step", "short", [(mean("krait_step_tokens", "", "instance"), "{{instance}} mean")]),
        ("KV pages in use", "percentunit", [(f'krait_kv_cache_usage_perc{{{S}}}', "{{role}} {{instance}}")]),
        ("KV pages", "short", [(f'krait_kv_pages_used{{{S}}}', "{{role}} {{instance}} used"),
                               (f'krait_kv_pages{{{S}}}', "{{role}} {{instance}} of")]),
        ("State slots", "short", [(f'krait_state_slots_used{{{S}}}', "{{role}} {{instance}} used"),
                                  (f'krait_state_slots{{{S}}}', "{{role}} {{instance}} of")]),
        ("Preemptions", "short", [(rate("krait_num_preemptions_total", "", "instance"), "{{instance}}")]),
        ("Tokens computed again", "short", [(rate("krait_recomputed_tokens_total", "", "instance"), "{{instance}}")]),
        ("Tokens admitted, of the budget", "short", [
            (total("krait_tokens_in_flight", "", "instance"), "{{instance}}"),
            (total("krait_token_budget", "", "instance"), "{{instance}} budget")]),
        ("Prompt and output lengths, mean", "short", [
            (mean("krait_request_prompt_tokens", COORDINATOR), "{{model_name}} prompt"),
            (mean("krait_request_generation_tokens", COORDINATOR), "{{model_name}} output")]),
    ]),
    "speculation": ("Speculation", [
        ("Drafts accepted", "percentunit", [
            (f"{rate('krait_spec_decode_num_accepted_tokens_total')} / {rate('krait_spec_decode_num_draft_tokens_total')}",
             "{{model_name}}")]),
        ("Tokens a round (1 + accepted)", "short", [
            (f"1 + {rate('krait_spec_decode_num_accepted_tokens_total')} / {rate('krait_spec_decode_num_drafts_total')}",
             "{{model_name}}")]),
        ("Accepted at each position, of rounds", "percentunit", [
            (f"{rate('krait_spec_decode_num_accepted_tokens_per_pos_total', '', 'position')} / on () group_left sum (rate(krait_spec_decode_num_drafts_total{{{S}}}[{RATE}]))",
             "{{position}}")]),
        ("Draft tokens", "short", [(rate("krait_spec_decode_num_draft_tokens_total"), "{{model_name}} verified"),
                                   (rate("krait_spec_decode_num_accepted_tokens_total"), "{{model_name}} accepted"),
                                   (rate("krait_draft_tokens_total"), "{{model_name}} proposed by drafts")]),
        ("Proposals by outcome", "short", [(rate("krait_draft_proposals_total", "", "outcome"), "{{outcome}}")]),
        ("What steps wait for drafts", "s", quantiles("krait_draft_wait_seconds", "", "instance")),
        ("Share of step time spent waiting for drafts", "percentunit", [
            (f"{rate('krait_draft_wait_seconds_sum', '', 'instance')} / {rate('krait_step_seconds_sum', '', 'instance')}",
             "{{instance}}")]),
        ("Off, and why", "short", [(f'krait_spec_disabled{{{S}}} == 1', "{{instance}} {{reason}}")]),
        ("Turned off", "short", [(f"sum by (reason) (increase(krait_spec_disabled_total{{{S}}}[{RATE}]))", "{{reason}}")]),
        ("Rows asked of drafts, and late ones", "short", [
            (rate("krait_draft_rows_total", "", "instance"), "{{instance}}"),
            (rate("krait_draft_late_rows_total", "", "instance"), "{{instance}} late")]),
        ("Drafts reached", "short", [(total("krait_draft_connected", "", "instance"), "{{instance}}")]),
    ]),
    "cluster": ("Cluster", [
        ("Workers by role and state, as each coordinator sees them", "short", [
            (f'krait_workers{{{S}}} > 0', "{{instance}} {{worker_role}} {{state}}")]),
        ("Ready processes", "short", [(f'krait_ready{{{S}}}', "{{role}} {{instance}}")]),
        ("Targets with a draft", "short", [(f'krait_targets_with_draft{{{S}}}', "{{instance}}")]),
        ("Leases a worker holds", "short", [(f'krait_registered_coordinators{{{S}}}', "{{instance}}")]),
        ("Registrations of workers (epochs)", "short", [
            (f'changes(krait_registration_epochs{{{S}}}[{RATE}])', "{{instance}}"),
            (rate("krait_worker_registrations_total", "", "instance, outcome"), "{{instance}} {{outcome}}")]),
        ("Leases that ran out", "short", [(rate("krait_worker_leases_expired_total", "", "instance"), "{{instance}}")]),
        ("Placed again, and not placed again for lack of budget", "reqps", [
            (rate("krait_request_retries_total", "", "instance"), "{{instance}}"),
            (rate("krait_request_retries_denied_total", "", "instance"), "{{instance}} denied")]),
        ("Streams that lost their worker", "reqps", [(rate("krait_streams_broken_total", "", "instance"), "{{instance}}")]),
        ("Clients that did not read", "reqps", [(rate("krait_slow_clients_total", "", "instance"), "{{instance}}")]),
        ("Tokens that came twice and were dropped", "short", [(rate("krait_duplicate_tokens_total", "", "instance"), "{{instance}}")]),
        ("Draining", "short", [(f'krait_draining{{{S}}} == 1', "{{instance}}")]),
        ("Requests by worker and end", "reqps", [
            (rate("krait_request_success_total", TARGET, "instance, finished_reason"), "{{instance}} {{finished_reason}}")]),
    ]),
    "gpu": ("GPU: what targets and drafts do with theirs", [
        ("Memory taken at start, by purpose", "bytes", [
            (total("krait_weight_bytes", "", "instance, role"), "{{role}} {{instance}} weights"),
            (total("krait_kv_cache_bytes", "", "instance, role"), "{{role}} {{instance}} KV pages"),
            (total("krait_state_bytes", "", "instance, role"), "{{role}} {{instance}} states"),
            (total("krait_state_ring_bytes", "", "instance, role"), "{{role}} {{instance}} rings"),
            (total("krait_in_process_draft_bytes", "", "instance, role"), "{{role}} {{instance}} draft in its process")]),
        ("KV pages in use", "percentunit", [(f'krait_kv_cache_usage_perc{{{S}}}', "{{role}} {{instance}}")]),
        ("Share of time the model runs", "percentunit", [
            (rate("krait_step_phase_seconds_sum", ',phase="model"', "instance, role"), "{{role}} {{instance}}")]),
        ("Share of time a step leaves the device waiting", "percentunit", [
            (rate("krait_step_phase_seconds_sum", ',phase!="model"', "instance, phase"), "{{instance}} {{phase}}")]),
        ("A step's model part", "s", quantiles("krait_step_phase_seconds", ',phase="model"', "instance")),
        ("Tokens a second of model time", "short", [
            (f"{rate('krait_step_tokens_sum', '', 'instance')} / {rate('krait_step_phase_seconds_sum', PHASE_MODEL, 'instance')}",
             "{{instance}}")]),
        ("Rows whose logits were not finite", "short", [
            (f"sum by (instance) (increase(krait_nonfinite_rows_total{{{S}}}[{RATE}]))", "{{instance}}")]),
        ("Restarts", "short", [(f"changes(krait_start_time_seconds{{{S}}}[{RATE}])", "{{role}} {{instance}}")]),
    ]),
    "process": ("Process", [
        ("CPU", "short", [(f"rate(process_cpu_seconds_total{{{I}}}[{RATE}])", "{{instance}} cores")]),
        ("Resident memory", "bytes", [(f"process_resident_memory_bytes{{{I}}}", "{{instance}}")]),
        ("Memory of workers, as planned", "bytes", [
            (f"krait_weight_bytes{{{S}}}", "{{role}} {{instance}} weights"),
            (f"krait_kv_cache_bytes{{{S}}}", "{{role}} {{instance}} KV pages"),
            (f"krait_state_bytes{{{S}}}", "{{role}} {{instance}} states"),
            (f"krait_state_ring_bytes{{{S}}}", "{{role}} {{instance}} rings"),
            (f"krait_in_process_draft_bytes{{{S}}}", "{{role}} {{instance}} draft in its process")]),
        ("Open files, of the limit", "percentunit", [(f"process_open_fds{{{I}}} / process_max_fds{{{I}}}", "{{instance}}")]),
        ("Threads", "short", [(f"process_threads{{{I}}}", "{{instance}}")]),
        ("Up for", "s", [(f"time() - krait_start_time_seconds{{{S}}}", "{{role}} {{instance}}")]),
        ("Builds", "short", [(f"count by (version, build_id, role) (krait_build_info{{{S}}})", "{{role}} {{version}} {{build_id}}")]),
        ("Series not exported", "short", [(f"krait_metric_series_dropped_total{{{S}}} > 0", "{{instance}}")]),
    ]),
}


def panel(index, title, unit, targets):
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": index + 1, "type": "timeseries", "title": title, "datasource": source,
        "gridPos": {"x": 12 * (index % 2), "y": 8 * (index // 2), "w": 12, "h": 8},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [{"refId": chr(ord("A") + i), "datasource": source, "expr": expression,
                     "legendFormat": legend} for i, (expression, legend) in enumerate(targets)]}


def variable(name, query):
    return {"name": name, "type": "query", "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "query": query, "refresh": 2, "multi": True, "includeAll": True, "allValue": ".*",
            "current": {"text": "All", "value": "$__all"}}


def dashboard(name, title, panels):
    variables = [{"name": "datasource", "type": "datasource", "query": "prometheus"},
                 *(variable(one, f"label_values(krait_build_info, {one})") for one in ("model_name", "instance"))]
    return {"title": f"krait / {title}", "uid": f"krait-{name}", "tags": ["krait"], "schemaVersion": 38,
            "editable": True, "refresh": "30s", "time": {"from": "now-1h", "to": "now"},
            "templating": {"list": variables},
            "links": [{"type": "dashboards", "tags": ["krait"], "asDropdown": True, "title": "krait"}],
            "panels": [panel(i, *p) for i, p in enumerate(panels)]}


def main():
    texts = {DASHBOARDS / f"{name}.json": json.dumps(dashboard(name, *board), indent=1) + "\n"
             for name, board in BOARDS.items()}
    if sys.argv[1:] == ["--check"]:
        there = {path: path.read_text() for path in DASHBOARDS.glob("*.json")}
        if there != texts:
            sys.exit("helm/krait/dashboards is not fresh: run helm/make_dashboards.py")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        for path, text in texts.items():
            path.write_text(text)


if __name__ == "__main__":
    main()
