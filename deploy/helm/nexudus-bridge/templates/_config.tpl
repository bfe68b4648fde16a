{{- /*
  The configuration as TOML. Helm's own toToml would write whole numbers as floats (4.194304e+06), which the bridge
  refuses, and knows nothing of references to Secrets.
*/}}

{{- /* The path at which a referenced file is mounted. */}}
{{- define "nexudus-bridge.path" -}}
{{- if .secret }}/run/secrets/{{ .secret }}/{{ .key }}{{ else }}/run/config/{{ .configMap }}/{{ .key }}{{ end }}
{{- end }}

{{- /* "yes" if this map is {secret, key} or {configMap, key}, else nothing. */}}
{{- define "nexudus-bridge.isReference" -}}
{{- if and (kindIs "map" .) (hasKey . "key") (or (hasKey . "secret") (hasKey . "configMap")) }}yes{{ end }}
{{- end }}

{{- /* One value. JSON's strings, booleans and lists of them are TOML's too. */}}
{{- define "nexudus-bridge.tomlValue" -}}
{{- if include "nexudus-bridge.isReference" . }}
{{- include "nexudus-bridge.path" . | toJson }}
{{- else if kindIs "slice" . }}
{{- $items := list }}
{{- range . }}
{{- $items = append $items (include "nexudus-bridge.tomlValue" .) }}
{{- end }}
{{- printf "[%s]" (join ", " $items) }}
{{- else if or (kindIs "string" .) (kindIs "bool" .) }}
{{- toJson . }}
{{- else if eq (float64 .) (float64 (int64 .)) }}
{{- int64 . }}
{{- else }}
{{- float64 . }}
{{- end }}
{{- end }}

{{- /* A table (path, table): its plain values, then its tables. Keys with dots are quoted. */}}
{{- define "nexudus-bridge.tomlTable" -}}
{{- $path := .path }}
{{- $lines := list }}
{{- $tables := "" }}
{{- range $key, $value := .table }}
{{- $name := ternary $key (toJson $key) (regexMatch "^[A-Za-z0-9_-]+$" $key) }}
{{- if kindIs "invalid" $value }}
{{- else if and (kindIs "map" $value) (not (include "nexudus-bridge.isReference" $value)) }}
{{- $inner := ternary $name (printf "%s.%s" $path $name) (empty $path) }}
{{- $tables = printf "%s%s" $tables (include "nexudus-bridge.tomlTable" (dict "path" $inner "table" $value)) }}
{{- else }}
{{- $lines = append $lines (printf "%s = %s\n" $name (include "nexudus-bridge.tomlValue" $value)) }}
{{- end }}
{{- end }}
{{- if and $path $lines }}{{ printf "\n[%s]\n" $path }}{{ end }}
{{- join "" $lines }}
{{- $tables }}
{{- end }}

{{- /* Gathers the references of a value into .found: a map of "secret/NAME" or "configMap/NAME" to a map of keys. */}}
{{- define "nexudus-bridge.gather" -}}
{{- $found := .found }}
{{- if include "nexudus-bridge.isReference" .value }}
{{- $kind := ternary "secret" "configMap" (hasKey .value "secret") }}
{{- $name := printf "%s/%s" $kind (get .value $kind) }}
{{- $_ := set $found $name (merge (dict .value.key true) (get $found $name | default dict)) }}
{{- else if or (kindIs "map" .value) (kindIs "slice" .value) }}
{{- range .value }}
{{- include "nexudus-bridge.gather" (dict "value" . "found" $found) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* All references, as YAML. */}}
{{- define "nexudus-bridge.references" -}}
{{- $found := dict }}
{{- include "nexudus-bridge.gather" (dict "value" .Values.config "found" $found) }}
{{- toYaml $found }}
{{- end }}

{{- define "nexudus-bridge.toml" -}}
{{- if not .Values.config.sources }}
{{- fail "config.sources is empty: at least one source is needed, such as config.sources.default.secret_files" }}
{{- end }}
{{- $_ := required "config.kafka.bootstrap_servers is needed" (.Values.config.kafka | default dict).bootstrap_servers }}
{{- $config := deepCopy .Values.config }}
{{- $address := .Values.listenAddress }}
{{- $_ := set $config "ingress" (merge (dict "listen" (printf "%s:%d" $address (int .Values.ports.http))) ($config.ingress | default dict)) }}
{{- $_ := set $config "admin" (merge (dict "listen" (printf "%s:%d" $address (int .Values.ports.admin))) ($config.admin | default dict)) }}
{{- include "nexudus-bridge.tomlTable" (dict "path" "" "table" $config) | trim }}
{{- end }}
