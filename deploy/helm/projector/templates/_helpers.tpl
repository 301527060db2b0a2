{{- define "projector.name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- $name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "projector.selector" -}}
app.kubernetes.io/name: projector
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "projector.labels" -}}
{{ include "projector.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "projector.serviceAccount" -}}
{{- if .Values.serviceAccount.name }}{{ .Values.serviceAccount.name }}{{ else if .Values.serviceAccount.create }}{{ include "projector.name" . }}{{ else }}default{{ end -}}
{{- end }}

{{- define "projector.secret" -}}
{{- if .Values.secret.values }}{{ include "projector.name" . }}{{ else }}{{ .Values.secret.existing | required "secret.existing: name the Secret with PROJECTOR_MYSQL__URL and PROJECTOR_REDIS__URL" }}{{ end -}}
{{- end }}

{{- /* The projection's setting: a name, or the attributes of the files beside projector.toml. */ -}}
{{- define "projector.projection" -}}
{{- if and .Values.projection.name .Values.projection.files -}}
{{- fail "projection.name and projection.files: give one of them" -}}
{{- else if .Values.projection.name -}}
{{ .Values.projection.name }}
{{- else -}}
{{- if not .Values.projection.files }}{{ fail "projection.files or projection.name: say what a document is; `projector scaffold TABLE` writes a file" }}{{ end -}}
{{ .Values.projection.attributes | required "projection.attributes: name what is in projection.files, for example shop.py:documents" }}
{{- end -}}
{{- end }}

{{- define "projector.settings" -}}
{{- $settings := merge (dict "projection" (include "projector.projection" .)) (deepCopy .Values.settings) -}}
{{- range $peer := list "mysql" "redis" -}}
{{- $given := index $.Values.tls $peer -}}
{{- $paths := dict -}}
{{- range $part := list "ca" "cert" "key" -}}
{{- with index $given $part }}{{ $_ := set $paths $part (printf "/etc/projector-tls/%s" .) }}{{ end -}}
{{- end -}}
{{- if $paths -}}
{{- if not $.Values.tls.secret }}{{ fail "tls.secret: name the Secret that holds the certificates" }}{{ end -}}
{{- $section := ternary (dict "mysql" (dict "tls" $paths)) (dict "redis" $paths) (eq $peer "mysql") -}}
{{- $settings = merge $section $settings -}}
{{- end -}}
{{- end -}}
{{ toToml $settings }}
{{- end }}
