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

{{- define "gossipykv.any" -}}
{{- if eq .Values.ip.family "IPv6" }}[::]{{ else }}0.0.0.0{{ end }}
{{- end }}
