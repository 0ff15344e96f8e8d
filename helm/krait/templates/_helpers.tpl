{{/* Names and labels. Selectors hold name, instance and component only: the rest may change. */}}
{{- define "krait.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "krait.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "krait.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "krait.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* (list root component): */}}
{{- define "krait.selector" -}}
app.kubernetes.io/name: {{ include "krait.name" (index . 0) }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "krait.labels" -}}
{{- $root := index . 0 -}}
{{ include "krait.selector" . }}
app.kubernetes.io/part-of: krait
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "krait.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "krait.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{/* (list root image): registry/repository:tag or @digest */}}
{{- define "krait.image" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{- with $root.Values.imageRegistry }}{{ . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest -}}@{{ $image.digest }}{{- else -}}:{{ default $root.Chart.AppVersion $image.tag }}{{- end -}}
{{- end }}

{{- define "krait.imagePullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* What every pod has. */}}
{{- define "krait.podDefaults" -}}
serviceAccountName: {{ include "krait.serviceAccountName" . }}
automountServiceAccountToken: false
{{- /* Variables like <SERVICE>_PORT=tcp://... are nothing krait reads. */}}
enableServiceLinks: false
{{- include "krait.imagePullSecrets" . }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .Values.podSecurity.runAsUser }}
  runAsGroup: {{ .Values.podSecurity.runAsGroup }}
  fsGroup: {{ .Values.podSecurity.fsGroup }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "krait.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: {{ . }}
{{- end }}

{{/* Termination. Everything comes from one `drain` block: preStop sleeps endpointLagSeconds, the
process drains for timeoutSeconds, and the margin is for delivering what was generated. */}}
{{- define "krait.gracePeriod" -}}
{{- add .endpointLagSeconds .timeoutSeconds 10 -}}
{{- end }}

{{- define "krait.preStop" -}}
{{- if .endpointLagSeconds }}
lifecycle:
  preStop:
    sleep: {seconds: {{ .endpointLagSeconds }}}
{{- end }}
{{- end }}

{{- define "krait.claimName" -}}
{{- default (printf "%s-models" (include "krait.fullname" .)) .Values.model.source.pvc.existingClaim -}}
{{- end }}

{{- define "krait.modelVolume" -}}
- name: models
  {{- if eq .Values.model.source.type "hostPath" }}
  hostPath: {path: {{ required "model.source.hostPath.path is needed for type hostPath" .Values.model.source.hostPath.path | quote }}, type: Directory}
  {{- else }}
  persistentVolumeClaim: {claimName: {{ include "krait.claimName" . }}, readOnly: true}
  {{- end }}
{{- end }}

{{/* Pods start once every file is there; a download renames a file into place when it is whole. */}}
{{- define "krait.modelInit" -}}
{{- if .Values.model.files }}
initContainers:
  - name: model
    image: {{ .Values.model.toolImage }}
    imagePullPolicy: IfNotPresent
    command: [sh, -ec]
    args:
      - |
        cd {{ .Values.model.mountPath | squote }}
        {{- range .Values.model.files }}
        until [ -e {{ .path | squote }} ]; do echo "waiting for "{{ .path | squote }}; sleep 5; done
        {{- if $.Values.model.verify }}
        echo {{ printf "%s  %s" .sha256 .path | squote }} | sha256sum -c
        {{- end }}
        {{- end }}
    resources:
      requests: {cpu: 10m, memory: 32Mi}
      limits: {memory: 256Mi}
    securityContext: {{- include "krait.containerSecurity" true | nindent 6 }}
    terminationMessagePolicy: FallbackToLogsOnError
    volumeMounts:
      - {name: models, mountPath: {{ .Values.model.mountPath }}, readOnly: true}
{{- end }}
{{- end }}

{{/* (list failureThreshold): probes on the admin port. Liveness never depends on load or peers. */}}
{{- define "krait.probes" -}}
startupProbe:
  httpGet: {path: /readyz, port: {{ index . 1 }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: {{ index . 0 }}
livenessProbe:
  httpGet: {path: /livez, port: {{ index . 1 }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: {{ index . 1 }}}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end }}

{{/* The processes' configuration files (proto/krait/config.proto). */}}
{{- define "krait.coordinatorConfig" -}}
{{- $config := dict
  "listen" (printf "0.0.0.0:%d" (int .Values.coordinator.port))
  "admin_listen" (printf "0.0.0.0:%d" (int .Values.coordinator.adminPort))
  "model_path" (printf "%s/%s" .Values.model.mountPath .Values.model.path)
  "model_name" .Values.model.name
  "insecure_plaintext" true
  "log_format" "json"
  "drain_timeout_ms" (mul .Values.coordinator.drain.timeoutSeconds 1000) -}}
{{- mergeOverwrite $config .Values.coordinator.config | toPrettyJson -}}
{{- end }}

{{- define "krait.targetConfig" -}}
{{- $worker := .Values.worker -}}
{{- $config := dict
  "role" "TARGET"
  "listen" (printf "0.0.0.0:%d" (int $worker.port))
  "admin_listen" (printf "0.0.0.0:%d" (int $worker.adminPort))
  "model_path" (printf "%s/%s" .Values.model.mountPath .Values.model.path)
  "model_name" .Values.model.name
  "coordinators" (list (printf "dns:///%s-registry:%d" (include "krait.fullname" .) (int .Values.coordinator.port)))
  "insecure_plaintext" true
  "log_format" "json"
  "tensor_parallel_size" $worker.tensorParallelSize
  "max_draft_tokens" $worker.maxDraftTokens
  "drain_timeout_ms" (mul $worker.drain.timeoutSeconds 1000) -}}
{{- if $worker.gpuResource }}{{- $_ := set $config "device" "cuda" }}{{- end }}
{{- if .Values.draft.enabled }}{{- $_ := set $config "draft_address" (printf "127.0.0.1:%d" (int .Values.draft.port)) }}{{- end }}
{{- if $worker.ngram }}{{- $_ := set $config "ngram" true }}{{- end }}
{{- if gt (int $worker.groupSize) 1 }}{{- $_ := set $config "processes" $worker.groupSize }}{{- end }}
{{- mergeOverwrite $config $worker.config | toPrettyJson -}}
{{- end }}

{{- define "krait.draftConfig" -}}
{{- $config := dict
  "role" "DRAFT"
  "listen" (printf "127.0.0.1:%d" (int .Values.draft.port))
  "admin_listen" (printf "0.0.0.0:%d" (int .Values.draft.adminPort))
  "model_path" (printf "%s/%s" .Values.model.mountPath .Values.draft.path)
  "model_name" .Values.model.name
  "log_format" "json"
  "drain_timeout_ms" (mul .Values.worker.drain.timeoutSeconds 1000) -}}
{{- if and .Values.worker.gpuResource .Values.draft.gpus }}{{- $_ := set $config "device" "cuda" }}{{- end }}
{{- mergeOverwrite $config .Values.draft.config | toPrettyJson -}}
{{- end }}

{{/* What values.schema.json cannot say. */}}
{{- define "krait.check" -}}
{{- $v := .Values -}}
{{- if and (eq $v.worker.kind "StatefulSet") (gt (int $v.worker.groupSize) 1) }}
{{- fail "worker.groupSize above 1 needs worker.kind LeaderWorkerSet" }}
{{- end }}
{{- if ne (mod $v.worker.tensorParallelSize $v.worker.groupSize) 0 }}
{{- fail (printf "worker.tensorParallelSize (%d) must be a multiple of worker.groupSize (%d)" (int $v.worker.tensorParallelSize) (int $v.worker.groupSize)) }}
{{- end }}
{{- if and $v.draft.enabled $v.worker.ngram }}
{{- fail "draft.enabled and worker.ngram exclude each other" }}
{{- end }}
{{- if and (eq $v.model.source.type "pvc") (not $v.model.source.pvc.existingClaim) }}
{{- fail "model.source.pvc.existingClaim is needed for model.source.type pvc" }}
{{- end }}
{{- if and (eq $v.model.source.type "download") (not $v.model.files) }}
{{- fail "model.files is needed for model.source.type download" }}
{{- end }}
{{- range $v.model.files }}
{{- if and (eq $v.model.source.type "download") (or (not .url) (not .sha256)) }}
{{- fail (printf "model.files: %s needs url and sha256 for model.source.type download" .path) }}
{{- end }}
{{- if and $v.model.verify (not .sha256) }}
{{- fail (printf "model.files: %s needs sha256 for model.verify" .path) }}
{{- end }}
{{- end }}
{{- end }}
