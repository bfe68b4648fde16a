{{- define "nexudus-bridge.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- /* At most 50 characters, so that suffixes fit into 63. */}}
{{- define "nexudus-bridge.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := include "nexudus-bridge.name" . }}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "nexudus-bridge.selectorLabels" -}}
app.kubernetes.io/name: {{ include "nexudus-bridge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* The metadata of an object. Arguments: root; optionally name or suffix of the name, more labels, more annotations. */}}
{{- define "nexudus-bridge.metadata" -}}
{{- $root := .root -}}
name: {{ .name | default (printf "%s%s" (include "nexudus-bridge.fullname" $root) (.suffix | default "")) }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "nexudus-bridge.labels" $root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "nexudus-bridge.labels" -}}
{{ include "nexudus-bridge.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "nexudus-bridge.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "nexudus-bridge.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "nexudus-bridge.image" -}}
{{- $repository := required "image.repository is needed: where was the image pushed to?" .Values.image.repository }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "nexudus-bridge.servicePort" -}}
{{- $https := (.Values.config.ingress | default dict).tls_cert }}
{{- .Values.service.port | default (ternary 443 80 (not (empty $https))) }}
{{- end }}

{{- /*
  The job of the metrics. It holds the release's name, so that two releases in one namespace stay apart, and "nexudus-bridge",
  which rules outside of the chart choose by.
*/}}
{{- define "nexudus-bridge.job" -}}
{{- $name := include "nexudus-bridge.fullname" . }}
{{- ternary $name (printf "nexudus-bridge-%s" $name) (contains "nexudus-bridge" $name) }}
{{- end }}

{{- /* The port of a URL. */}}
{{- define "nexudus-bridge.portOf" -}}
{{- $url := urlParse . }}
{{- regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (ternary "80" "443" (eq $url.scheme "http")) }}
{{- end }}

{{- /* The ports of the other servers in config, as a list in JSON: Nexudus's API, the token server, the collector. */}}
{{- define "nexudus-bridge.portsOfOthers" -}}
{{- $config := .Values.config }}
{{- $urls := list (($config.kafka | default dict).oauth | default dict).token_endpoint ($config.telemetry | default dict).otlp_endpoint }}
{{- with $config.nexudus }}
{{- $urls = append $urls (.base_url | default "https://spaces.nexudus.com") }}
{{- end }}
{{- $ports := list }}
{{- range compact $urls }}
{{- $ports = append $ports (include "nexudus-bridge.portOf" . | int) }}
{{- end }}
{{- uniq $ports | toJson }}
{{- end }}

{{- /* A duration such as "5s", "500ms" or "1m 30s" in milliseconds. */}}
{{- define "nexudus-bridge.milliseconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 }}
{{- $sum := 0 }}
{{- range regexFindAll "[0-9]+(ms|s|m|h)" . -1 }}
{{- $unit := regexFind "[a-z]+" . }}
{{- $sum = add $sum (mul (regexFind "[0-9]+" . | int64) (get $units $unit)) }}
{{- end }}
{{- $sum }}
{{- end }}

{{- /* shutdown_delay + shutdown_grace + 15 s to flush and end, in whole seconds. */}}
{{- define "nexudus-bridge.terminationGracePeriodSeconds" -}}
{{- $ingress := .Values.config.ingress | default dict }}
{{- $delay := include "nexudus-bridge.milliseconds" ($ingress.shutdown_delay | default "0s") | int64 }}
{{- $grace := include "nexudus-bridge.milliseconds" ($ingress.shutdown_grace | default "25s") | int64 }}
{{- add 15 (div (add $delay $grace 999) 1000) }}
{{- end }}
