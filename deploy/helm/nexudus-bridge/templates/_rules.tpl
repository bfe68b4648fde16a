{{- /*
  The groups of files/rules with the changes of prometheusRule.alerts. A threshold is the number before a comment
  `# threshold: NAME` in an expression.
*/}}
{{- define "nexudus-bridge.ruleGroups" -}}
{{- $alerts := .Values.prometheusRule.alerts | default dict }}
{{- $known := list }}
{{- $groups := list }}
{{- range $path, $_ := .Files.Glob "files/rules/*.yml" }}
{{- range $group := ($.Files.Get $path | fromYaml).groups }}
{{- $rules := list }}
{{- range $rule := $group.rules }}
{{- $change := get $alerts ($rule.alert | default "") | default dict }}
{{- if $rule.alert }}
{{- $known = append $known $rule.alert }}
{{- $url := $.Values.prometheusRule.runbookUrl | replace "{alert}" (lower $rule.alert) }}
{{- $_ := set $rule.annotations "runbook_url" $url }}
{{- with $change.for }}{{ $_ := set $rule "for" . }}{{ end }}
{{- with $change.severity }}{{ $_ := set $rule.labels "severity" . }}{{ end }}
{{- range $name, $value := $change.thresholds }}
{{- $marked := printf "[0-9][0-9.]*( \\* [0-9.]+)* # threshold: %s\\b" $name }}
{{- if not (regexMatch $marked $rule.expr) }}
{{- fail (printf "prometheusRule.alerts.%s.thresholds.%s: this alert has no such threshold" $rule.alert $name) }}
{{- end }}
{{- $new := printf "%s # threshold: %s" (include "nexudus-bridge.tomlValue" $value) $name }}
{{- $_ := set $rule "expr" (regexReplaceAllLiteral $marked $rule.expr $new) }}
{{- end }}
{{- end }}
{{- if ne (toString $change.enabled) "false" }}
{{- $rules = append $rules $rule }}
{{- end }}
{{- end }}
{{- with $rules }}
{{- $groups = append $groups (set $group "rules" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $_ := $alerts }}
{{- if not (has $name $known) }}
{{- fail (printf "prometheusRule.alerts.%s: there is no such alert" $name) }}
{{- end }}
{{- end }}
{{- toYaml $groups }}
{{- end }}
