{{/* (dict root leader): the pod template of a worker. Only a group's leader has the draft. */}}
{{- define "krait.workerPod" -}}
{{- $root := .root -}}
{{- $w := $root.Values.worker -}}
{{- $draft := and .leader $root.Values.draft.enabled -}}
{{- $ranks := div $w.tensorParallelSize $w.groupSize -}}
metadata:
  labels:
    {{- include "krait.labels" (list $root "worker") | nindent 4 }}
    {{- with $w.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ printf "%s%s" (include "krait.targetConfig" $root) (include "krait.draftConfig" $root) | sha256sum }}
    {{- with $w.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "krait.podDefaults" $root | nindent 2 }}
  terminationGracePeriodSeconds: {{ include "krait.gracePeriod" $w.drain }}
  {{- with $w.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $w.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with $w.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if or $w.gpuResource $w.tolerations }}
  tolerations:
    {{- with $w.gpuResource }}
    - {key: {{ . }}, operator: Exists, effect: NoSchedule}
    {{- end }}
    {{- with $w.tolerations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  {{- with $w.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $w.topologySpreadConstraints }}
  topologySpreadConstraints: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- include "krait.modelInit" $root | nindent 2 }}
  containers:
    - name: target
      image: {{ include "krait.image" (list $root $root.Values.image.worker) }}
      imagePullPolicy: {{ $root.Values.image.worker.pullPolicy }}
      args:
        - --config
        - /etc/krait/target.json
        - --name=$(POD_NAME)
        - --advertise=$(POD_IP):{{ $w.port }}
        {{- if gt (int $w.groupSize) 1 }}
        - --process_index=$(LWS_WORKER_INDEX)
        - --group_address=$(LWS_LEADER_ADDRESS):{{ $w.groupPort }}
        {{- end }}
      env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        {{- if $w.gpuResource }}
        {{- range $key, $value := $w.ncclEnv }}
        - {name: {{ $key }}, value: {{ $value | quote }}}
        {{- end }}
        {{- end }}
        {{- with $w.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {name: grpc, containerPort: {{ $w.port }}}
        - {name: admin, containerPort: {{ $w.adminPort }}}
        {{- if gt (int $w.groupSize) 1 }}
        - {name: group, containerPort: {{ $w.groupPort }}}
        {{- end }}
      {{- include "krait.probes" (list $w.startupFailureThreshold "admin") | nindent 6 }}
      {{- include "krait.preStop" $w.drain | nindent 6 }}
      resources: {{- include "krait.gpuResources" (list $w.resources $w.gpuResource $ranks) | nindent 8 }}
      securityContext: {{- include "krait.containerSecurity" (or (not $w.gpuResource) $w.readOnlyRootFilesystem) | nindent 8 }}
      terminationMessagePolicy: FallbackToLogsOnError
      volumeMounts: {{- include "krait.workerMounts" $root | nindent 8 }}
    {{- if $draft }}
    - name: draft
      image: {{ include "krait.image" (list $root $root.Values.image.worker) }}
      imagePullPolicy: {{ $root.Values.image.worker.pullPolicy }}
      args: [--config, /etc/krait/draft.json, --name=$(POD_NAME)-draft]
      env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
      ports:
        - {name: draft-admin, containerPort: {{ $root.Values.draft.adminPort }}}
      {{- /* No readiness probe: a lost draft costs speed, and must not take its target out. */}}
      startupProbe:
        httpGet: {path: /readyz, port: draft-admin}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: {{ $w.startupFailureThreshold }}
      livenessProbe:
        httpGet: {path: /livez, port: draft-admin}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      {{- include "krait.preStop" $w.drain | nindent 6 }}
      resources: {{- include "krait.gpuResources" (list $root.Values.draft.resources $w.gpuResource $root.Values.draft.gpus) | nindent 8 }}
      securityContext: {{- include "krait.containerSecurity" (or (not $w.gpuResource) $w.readOnlyRootFilesystem) | nindent 8 }}
      terminationMessagePolicy: FallbackToLogsOnError
      volumeMounts: {{- include "krait.workerMounts" $root | nindent 8 }}
    {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "krait.fullname" $root }}-config}
    - name: tmp
      emptyDir: {sizeLimit: 1Gi}
    - name: shm
      emptyDir: {medium: Memory, sizeLimit: {{ $w.shm.sizeLimit }}}
    {{- include "krait.modelVolume" $root | nindent 4 }}
{{- end }}

{{- define "krait.workerMounts" -}}
- {name: config, mountPath: /etc/krait, readOnly: true}
- {name: models, mountPath: {{ .Values.model.mountPath }}, readOnly: true}
- {name: tmp, mountPath: /tmp}
- {name: shm, mountPath: /dev/shm}
{{- end }}

{{/* (list resources gpuResource count): GPUs are whole, and their requests equal their limits. */}}
{{- define "krait.gpuResources" -}}
{{- $resources := deepCopy (index . 0) -}}
{{- if and (index . 1) (gt (int (index . 2)) 0) -}}
{{- range $part := list "requests" "limits" -}}
{{- $_ := set $resources $part (merge (dict (index $ 1) (int (index $ 2))) (default dict (get $resources $part))) -}}
{{- end -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end }}
