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

{{- /* A quantity of Kubernetes, as 512Mi, in bytes. */}}
{{- define "gossipykv.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- $unit := regexFind "[A-Za-z]*$" . }}
{{- if not (hasKey $units $unit) }}{{ fail (printf "resources.limits.memory: %s is no quantity, as 512Mi is" .) }}{{ end }}
{{- mulf (float64 (trimSuffix $unit .)) (get $units $unit) | int64 }}
{{- end }}

{{- define "gossipykv.storeBytes" -}}
{{- if kindIs "string" .Values.maxStoreBytes }}{{ .Values.maxStoreBytes }}{{ else }}{{ int64 .Values.maxStoreBytes }}{{ end }}
{{- end }}

{{- /* What has to hold between values; the schema sees each alone. */}}
{{- define "gossipykv.checked" -}}
{{- $memory := dig "limits" "memory" "" .Values.resources | toString }}
{{- if and $memory (not (kindIs "string" .Values.maxStoreBytes)) }}
{{- if gt (mul 2 (int64 .Values.maxStoreBytes)) (int64 (include "gossipykv.bytes" $memory)) }}
{{- fail (printf "maxStoreBytes: %d is over half of resources.limits.memory, %s: the kernel would end all nodes before a PUT answers 507" (int64 .Values.maxStoreBytes) $memory) }}
{{- end }}
{{- end }}
{{- if and (ne .Values.token.readKey "http-token") (not .Values.secret.existing) }}
{{- fail "token.readKey: the secret that the chart makes has http-token alone; give secret.existing" }}
{{- end }}
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
