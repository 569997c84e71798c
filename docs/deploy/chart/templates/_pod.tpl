{{/* The labels that choose the pods of one component: (list $ "worker") */}}
{{- define "outbox.selector" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ $.Chart.Name }}
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "outbox.labels" -}}
{{- $ := index . 0 -}}
{{ include "outbox.selector" . }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
{{- end }}

{{- define "outbox.image" -}}
{{ .Values.image.repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* The labels and annotations of a component's pods: (list $ "worker" annotations) */}}
{{- define "outbox.podMetadata" -}}
{{- $ := index . 0 -}}
labels:
  {{- include "outbox.labels" . | nindent 2 }}
  {{- with $.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (index . 2) $.Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What is the same in every pod: nothing that it could do beyond talking to the stores. */}}
{{- define "outbox.podSpec" -}}
automountServiceAccountToken: false
{{- with .Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
# A Service named outbox-console would set OUTBOX_CONSOLE_PORT in every pod, and to an URL.
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  # Files of the Secret are root's and this group's: libpq takes no key that others could read.
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {}
  {{- with .Values.existingTlsSecret }}
  - name: tls
    secret: {secretName: {{ . }}, defaultMode: 0440}
  {{- end }}
{{- end }}

{{/*
What is the same in every container: (list $ "worker" resources environment). The second names its Secret, by the role;
the environment is what this process is told beside the settings.
*/}}
{{- define "outbox.container" -}}
{{- $ := index . 0 -}}
image: {{ include "outbox.image" $ }}
imagePullPolicy: {{ $.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
envFrom:
  {{- with $.Values.existingConfigMap }}
  - configMapRef: {name: {{ . }}}
  {{- end }}
  - secretRef: {name: {{ get $.Values.existingSecrets (index . 1) }}}
{{- with merge (dict) (index . 3) $.Values.settings }}
env:
  {{- range $name, $value := . }}
  {{- /* A large number would come as 1e+06. */}}
  - {name: {{ $name }}, value: {{ kindIs "string" $value | ternary $value ($value | toJson) | quote }}}
  {{- end }}
{{- end }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if $.Values.existingTlsSecret }}
  - {name: tls, mountPath: /etc/outbox/tls, readOnly: true}
  {{- end }}
resources:
  {{- toYaml (index . 2) | nindent 2 }}
{{- end }}

{{/* Liveness asks whether the loops turn; a store that is away is no reason to restart. */}}
{{- define "outbox.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: http, scheme: {{ . }}}
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /healthz, port: http, scheme: {{ . }}}
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: http, scheme: {{ . }}}
  periodSeconds: 10
  timeoutSeconds: 5
{{- end }}

{{/* The Deployment of a process that works, and its disruption budget: (list $ "worker" "run") */}}
{{- define "outbox.working" -}}
{{- $ := index . 0 -}}
{{- $component := index . 1 -}}
{{- $values := index $.Values $component -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $.Release.Name }}-{{ $component }}
  labels:
    {{- include "outbox.labels" (list $ $component) | nindent 4 }}
spec:
  replicas: {{ $values.replicas }}
  # The old ones work until the new ones do, and a worker doesn't start before the database is migrated.
  strategy:
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels:
      {{- include "outbox.selector" (list $ $component) | nindent 6 }}
  template:
    metadata:
      {{- $scraped := dict "prometheus.io/scrape" "true" "prometheus.io/port" "9464" }}
      {{- $annotations := ternary (dict) $scraped $.Values.prometheus.podMonitor }}
      {{- include "outbox.podMetadata" (list $ $component $annotations) | nindent 6 }}
    spec:
      {{- include "outbox.podSpec" $ | nindent 6 }}
      # More than OUTBOX_DRAIN_SECONDS (15), after which a process cuts itself off.
      terminationGracePeriodSeconds: 30
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "outbox.selector" (list $ $component) | nindent 14 }}
      containers:
        - name: {{ $component }}
          args: [{{ index . 2 }}]
          {{- /* The kubelet and Prometheus come from outside of the pod. */}}
          {{- $listens := dict "OUTBOX_HTTP_HOST" "0.0.0.0" "OUTBOX_HTTP_PORT" "9464" }}
          {{- include "outbox.container" (list $ "worker" $values.resources $listens) | nindent 10 }}
          ports:
            - {name: http, containerPort: 9464}
          {{- include "outbox.probes" "HTTP" | nindent 10 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $.Release.Name }}-{{ $component }}
  labels:
    {{- include "outbox.labels" (list $ $component) | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "outbox.selector" (list $ $component) | nindent 6 }}
{{- end }}
