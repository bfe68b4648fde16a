{{- /*
  An expression that reads this release's series only: the selector goes into every selector of a metric of the bridge, and
  the prefix of its topics into those of consumers.
  process_… metrics need none, since expressions join them with metrics of the bridge.
*/}}
{{- define "nexudus-bridge.ownSeries" -}}
{{- $selector := .selector }}
{{- $name := "(nexudus_bridge[_:][a-zA-Z0-9_:]+)" }}
{{- $expr := replace "up{job=~\".*nexudus-bridge.*\"}" (printf "up{%s}" $selector) .expr }}
{{- $expr = regexReplaceAll (printf "%s\\{" $name) $expr (printf "${1}@{%s," $selector) }}
{{- $expr = regexReplaceAll (printf "%s([^a-zA-Z0-9_:@]|$)" $name) $expr (printf "${1}{%s}${2}" $selector) }}
{{- replace "@{" "{" $expr | replace "nexudus\\\\..+" (printf "%s.+" .topics) }}
{{- end }}

{{- /*
  The groups of files/rules for this release, with the changes of prometheusRule.alerts. A threshold is the number before a
  comment `# threshold: NAME` in an expression.
*/}}
{{- define "nexudus-bridge.ruleGroups" -}}
{{- $alerts := .Values.prometheusRule.alerts | default dict }}
{{- $own := printf "job=%q,namespace=%q" (include "nexudus-bridge.job" .) .Release.Namespace }}
{{- $prefix := (.Values.config.topics | default dict).prefix | default "nexudus." }}
{{- $topics := regexQuoteMeta $prefix | replace "\\" "\\\\" }}
{{- $selector := .Values.prometheusRule.selector | default $own }}
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
{{- $_ := set $rule "expr" (include "nexudus-bridge.ownSeries" (dict "expr" $rule.expr "selector" $selector "topics" $topics)) }}
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
