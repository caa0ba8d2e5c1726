{{- /* Names are fixed: policies, roles and the CRD exist once in a cluster, and so does CDMO. */ -}}

{{- define "cdmo.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: cdmo
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- /* Of one component's objects; call with (list $ "agent"). */ -}}
{{- define "cdmo.componentLabels" -}}
{{ include "cdmo.labels" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "cdmo.selector" -}}
app.kubernetes.io/name: cdmo
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- /* The objects of one file below files/, in the release's namespace; call with (list $ "policy/agent.yaml"), and with
a mapping of annotations as a third where they are to have some. */ -}}
{{- define "cdmo.deployed" -}}
{{- $root := index . 0 }}
{{- $annotations := dict }}
{{- if gt (len .) 2 }}{{ $annotations = index . 2 }}{{ end }}
{{- $namespace := $root.Release.Namespace }}
{{- $text := $root.Files.Get (printf "files/%s" (index . 1)) }}
{{- $text = regexReplaceAll "(?m)namespace: cdmo$" $text (printf "namespace: %s" $namespace) }}
{{- $text = replace "serviceaccount:cdmo:" (printf "serviceaccount:%s:" $namespace) $text }}
{{- $text = replace "request.namespace != 'cdmo'" (printf "request.namespace != '%s'" $namespace) $text }}
{{- range splitList "\n---\n" $text }}
{{- $object := fromYaml . }}
{{- $_ := set $object.metadata "labels" (include "cdmo.labels" $root | fromYaml) }}
{{- if $annotations }}{{ $_ := set $object.metadata "annotations" $annotations }}{{ end }}
---
{{ toYaml $object }}
{{- end }}
{{- end }}

{{- define "cdmo.image" -}}
{{- $image := .Values.image }}
{{- $image.repository }}{{ if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* The registry that image.repository names: its first part, if that looks like a host. */ -}}
{{- define "cdmo.imageRegistry" -}}
{{- $first := splitList "/" .Values.image.repository | first }}
{{- if and (contains "/" .Values.image.repository) (or (contains "." $first) (contains ":" $first) (eq $first "localhost")) }}
{{- $first }}{{ else }}docker.io{{ end }}
{{- end }}

{{- define "cdmo.pullSecrets" -}}
{{- $names := .Values.imagePullSecrets }}
{{- if .Values.imageCredentials.password }}{{ $names = append $names "cdmo-registry" | uniq }}{{ end }}
{{- if $names }}
imagePullSecrets:
{{- range $names }}
- name: {{ quote . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "cdmo.servingArguments" -}}
- "--listen={{ .Values.serving.address }}:{{ .Values.serving.port }}"
{{- if .Values.serving.tlsSecret }}
- --tls-certificate=/tls/tls.crt
- --tls-key=/tls/tls.key
{{- end }}
{{- end }}

{{- define "cdmo.probes" -}}
ports:
- {name: health, containerPort: {{ .Values.serving.port }}}
livenessProbe:
  httpGet: {path: /livez, port: health, scheme: HTTPS}
  initialDelaySeconds: 10
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: health, scheme: HTTPS}
  periodSeconds: 5
{{- end }}

{{- /* Environment of both beside their own; call with (list $ .Values.agent.env). */ -}}
{{- define "cdmo.environment" -}}
{{- with (index . 0).Values.kubernetesApi }}
{{- if .host }}
- {name: KUBERNETES_SERVICE_HOST, value: {{ .host | quote }}}
- {name: KUBERNETES_SERVICE_PORT, value: {{ .port | quote }}}
{{- end }}
{{- end }}
{{- range index . 1 }}
- {name: {{ .name }}, value: {{ .value | quote }}}
{{- end }}
{{- end }}

{{- define "cdmo.doctorJob" -}}
cdmo-doctor-{{ .Release.Revision }}
{{- end }}

{{- define "cdmo.offGpuNodes" -}}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
    - matchExpressions:
      - {key: cdmo.clear.ml/gpu-partitioning, operator: DoesNotExist}
{{- end }}

{{- /* Both as the Pod Security level `restricted` wants them. */ -}}
{{- define "cdmo.restrictedPod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "cdmo.restrictedContainer" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
