{{/* What all names begin with: "rerank" in a release of that name, else e.g. "search-rerank". */}}
{{- define "rerank.fullname" -}}
{{- $name := default (trimSuffix "-operator" .Chart.Name) .Values.nameOverride -}}
{{- $release := trimSuffix "-operator" .Release.Name -}}
{{- $both := ternary $release (printf "%s-%s" $release $name) (contains $name $release) -}}
{{- default $both .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "rerank.operator" -}}{{ include "rerank.fullname" . }}-operator{{- end }}
{{- define "rerank.gateway" -}}{{ include "rerank.fullname" . }}-gateway{{- end }}

{{/* The labels that pods are found by; they can never change. Takes (list $ COMPONENT). */}}
{{- define "rerank.selector" -}}
{{- $top := index . 0 -}}
app.kubernetes.io/name: rerank
app.kubernetes.io/instance: {{ $top.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* All labels of an object. Takes (list $ COMPONENT). */}}
{{- define "rerank.labels" -}}
{{- $top := index . 0 -}}
{{ include "rerank.selector" . }}
app.kubernetes.io/version: {{ $top.Chart.AppVersion }}
app.kubernetes.io/managed-by: {{ $top.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $top.Chart.Name $top.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* An image's whole reference. Takes (list $ IMAGE), the second a key of .Values.images. */}}
{{- define "rerank.image" -}}
{{- $top := index . 0 -}}
{{- $image := index $top.Values.images (index . 1) -}}
{{- with $top.Values.images.registry }}{{ . }}/{{ end -}}
{{ $image.repository }}:{{ default $top.Chart.AppVersion $image.tag }}
{{- end }}

{{/* The service account of a component. Takes (list $ COMPONENT). */}}
{{- define "rerank.serviceAccount" -}}
{{- $top := index . 0 -}}
{{- $account := (index $top.Values (index . 1)).serviceAccount -}}
{{- $own := printf "%s-%s" (include "rerank.fullname" $top) (index . 1) -}}
{{- default (ternary $own "default" $account.create) $account.name -}}
{{- end }}

{{/* The labels of a component's pods: whatever is added, they are found. Takes (list $ COMPONENT). */}}
{{- define "rerank.podLabels" -}}
{{- $values := index (index . 0).Values (index . 1) -}}
{{ merge (include "rerank.selector" . | fromYaml) $values.podLabels | toYaml }}
{{- end }}

{{/* Where a component's pods go, and who they are. Takes (list $ COMPONENT). */}}
{{- define "rerank.podPlacement" -}}
{{- $top := index . 0 -}}
{{- $values := index $top.Values (index . 1) -}}
serviceAccountName: {{ include "rerank.serviceAccount" . }}
enableServiceLinks: false
securityContext: {{- toYaml $top.Values.podSecurityContext | nindent 2 }}
{{- with $top.Values.images.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What every container of the image `control` has. */}}
{{- define "rerank.control" -}}
image: {{ include "rerank.image" (list . "control") | quote }}
imagePullPolicy: {{ .Values.images.pullPolicy }}
securityContext: {{- toYaml .Values.containerSecurityContext | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
{{- end }}

{{/* How long a route lets a request take; nothing leaves it to the controller. Takes (list $ TIMEOUT). */}}
{{- define "rerank.routeTimeout" -}}
{{- if eq (index . 1) "auto" -}}
{{ add (index . 0).Values.gateway.limits.requestTimeoutSeconds 10 }}s
{{- else -}}
{{ index . 1 }}
{{- end -}}
{{- end }}

{{/* What is spoken at the gateway itself; also the name of its Service's port. */}}
{{- define "rerank.gatewayScheme" -}}
{{ empty .Values.gateway.tls.secretName | ternary "http" "https" }}
{{- end }}

{{/* How long a request waits for the first replica of its model: there has to be time left to answer it. */}}
{{- define "rerank.holdSeconds" -}}
{{- with .Values.gateway.limits -}}
{{ min 120 (max 1 (div (mul 4 (min .requestTimeoutSeconds (.tryTimeoutSeconds | default .requestTimeoutSeconds))) 5)) }}
{{- end -}}
{{- end }}

{{/* Not empty where the gateway's replicas tell each other what consumers use; one that is replaced has two. */}}
{{- define "rerank.sharesLimits" -}}
{{- .Values.gateway.auth.enabled | ternary "yes" "" -}}
{{- end }}

{{/* The Service that has all of the gateway's replicas, so that they find each other. */}}
{{- define "rerank.gatewayPeers" -}}{{ include "rerank.gateway" . }}-all{{- end }}

{{/* The port of the gateway's Service. */}}
{{- define "rerank.gatewayPort" -}}
{{ .Values.gateway.service.port | default (eq (include "rerank.gatewayScheme" .) "https" | ternary 443 80) }}
{{- end }}

{{/* Where clients reach the gateway. */}}
{{- define "rerank.gatewayUrl" -}}
{{- with .Values.gateway -}}
{{- if .url -}}
{{ .url }}
{{- else if .ingress.enabled -}}
{{ empty .ingress.tls | ternary "http" "https" }}://{{ first .ingress.hosts }}
{{- else if and .httpRoute.enabled .httpRoute.hostnames -}}
http://{{ first .httpRoute.hostnames }}
{{- else -}}
{{- $scheme := include "rerank.gatewayScheme" $ -}}
{{- $port := include "rerank.gatewayPort" $ -}}
{{ $scheme }}://{{ include "rerank.gateway" $ }}.{{ $.Release.Namespace }}.svc
{{- if ne $port (eq $scheme "https" | ternary "443" "80") }}:{{ $port }}{{ end }}
{{- end -}}
{{- end -}}
{{- end }}
