{{- define "gossipykv.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "gossipykv.secret" -}}
{{- .Values.secret.existing | default (include "gossipykv.name" .) }}
{{- end }}

{{- define "gossipykv.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gossipykv.labels" -}}
{{ include "gossipykv.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "gossipykv.scheme" -}}
{{- if .Values.tls.secret }}https{{ else }}http{{ end }}
{{- end }}

{{- /* The name by which the certificate goes, and whoever asks the API in this cluster. */}}
{{- define "gossipykv.host" -}}
{{ include "gossipykv.name" . }}.{{ .Release.Namespace }}.svc
{{- end }}

{{- /* Where backups go: S3, or the folder on their volume. Empty: there are none. */}}
{{- define "gossipykv.place" -}}
{{- $volume := or .Values.backup.volume.existing .Values.backup.volume.size }}
{{- if and $volume .Values.backup.place }}{{ fail "backup: place or volume, not both" }}{{ end }}
{{- if and .Values.backup.volume.existing .Values.backup.volume.size }}{{ fail "backup.volume: existing or size, not both" }}{{ end }}
{{- if $volume }}/backups/{{ else }}{{ .Values.backup.place }}{{ end }}
{{- end }}

{{- /* What has to hold between values; the schema sees each alone. */}}
{{- define "gossipykv.checked" -}}
{{- if and (not .Values.tls.secret) (or .Values.tls.clientCaSecret .Values.tls.clientSecret) }}
{{- fail "tls: certificates of clients need tls.secret" }}
{{- end }}
{{- if and .Values.tls.clientCaSecret (not .Values.tls.clientSecret) (or .Values.monitoring.serviceMonitor (include "gossipykv.place" .)) }}
{{- fail "tls.clientSecret: the backups and Prometheus need a certificate where tls.clientCaSecret is given" }}
{{- end }}
{{- end }}

{{- define "gossipykv.any" -}}
{{- if eq .Values.ip.family "IPv6" }}[::]{{ else }}0.0.0.0{{ end }}
{{- end }}
