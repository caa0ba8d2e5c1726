{{- /* What the schema cannot say. Each refusal is one sentence and the value that mends it. */ -}}

{{- define "cdmo.checks" -}}
{{- include "cdmo.checkCluster" . }}
{{- include "cdmo.checkImage" . }}
{{- include "cdmo.checkPlacement" . }}
{{- include "cdmo.checkDoctor" . }}
{{- include "cdmo.checkPods" (list "controller" .Values.controller) }}
{{- include "cdmo.checkPods" (list "agent" .Values.agent) }}
{{- end }}

{{- define "cdmo.checkCluster" -}}
{{- if eq .Release.Namespace "default" }}
{{- fail "CDMO needs a namespace of its own, for its fence lets pods in that namespace through and is proved in `default`: add `--namespace cdmo --create-namespace`" }}
{{- end }}
{{- if hasPrefix "kube-" .Release.Namespace }}
{{- fail (printf "CDMO needs a namespace of its own, for its fence lets pods in that namespace through, and %s has others' pods: add `--namespace cdmo --create-namespace`" .Release.Namespace) }}
{{- end }}
{{- /* Without a cluster (`helm template`) groups are known and kinds are not: then there is nothing to ask. */ -}}
{{- $known := .Capabilities.APIVersions }}
{{- if and ($known.Has "v1/Pod") (not ($known.Has "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy")) }}
{{- fail (printf "this cluster (Kubernetes %s) does not serve ValidatingAdmissionPolicy in admissionregistration.k8s.io/v1, of which CDMO's fence is made: use Kubernetes 1.30 or newer and do not switch that API off in the API server's `--runtime-config`" .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- end }}

{{- define "cdmo.checkImage" -}}
{{- if and .Values.image.tag .Values.image.digest }}
{{- fail "image.tag and image.digest are both set, and a digest alone names one image: set `image.tag` to \"\"" }}
{{- end }}
{{- $credentials := .Values.imageCredentials }}
{{- $registry := include "cdmo.imageRegistry" . }}
{{- if and $credentials.password (not $credentials.username) }}
{{- fail "imageCredentials.password is set without a user: set `imageCredentials.username`" }}
{{- end }}
{{- if and $credentials.registry (not $credentials.password) }}
{{- fail "imageCredentials.registry is set without a password, and no pull secret would be made: set `imageCredentials.password`, or `imageCredentials.registry` to \"\"" }}
{{- end }}
{{- if and $credentials.registry (ne $credentials.registry $registry) }}
{{- fail (printf "imageCredentials are for %s and the image comes from %s, where they are never used: set `imageCredentials.registry` to %q, or `image.repository` to a name that begins with %s/" $credentials.registry $registry $registry $credentials.registry) }}
{{- end }}
{{- end }}

{{- define "cdmo.checkPlacement" -}}
{{- $controller := .Values.controller }}
{{- if $controller.keepOffGpuNodes }}
{{- if $controller.affinity }}
{{- fail "controller.affinity replaces the rule that keeps the controller off GPU nodes: set `controller.keepOffGpuNodes` to false, and write that rule into the affinity if you want it" }}
{{- end }}
{{- if hasKey $controller.nodeSelector "cdmo.clear.ml/gpu-partitioning" }}
{{- fail "controller.nodeSelector asks for nodes that controller.keepOffGpuNodes excludes: set `controller.keepOffGpuNodes` to false" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "cdmo.checkDoctor" -}}
{{- range $namespace := .Values.doctor.configMapNamespaces }}
{{- /* Without a cluster nothing is found, not even what is always there. */ -}}
{{- if and (lookup "v1" "Namespace" "" "kube-system") (not (lookup "v1" "Namespace" "" $namespace)) }}
{{- fail (printf "doctor.configMapNamespaces names %s, and there is no such namespace: create it, or take it out of `doctor.configMapNamespaces`" $namespace) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Call with (list "agent" .Values.agent). */ -}}
{{- define "cdmo.checkPods" -}}
{{- $component := index . 0 }}
{{- $values := index . 1 }}
{{- range $key, $_ := $values.podLabels }}
{{- if has $key (list "app.kubernetes.io/name" "app.kubernetes.io/component") }}
{{- fail (printf "%s.podLabels sets %s, by which its pods are found: take it out of `%s.podLabels`" $component $key $component) }}
{{- end }}
{{- end }}
{{- $own := dict "KUBERNETES_SERVICE_HOST" "kubernetesApi.host" "KUBERNETES_SERVICE_PORT" "kubernetesApi.port" "CDMO_LOG_LEVEL" (printf "%s.logLevel" $component) "CDMO_LISTEN" "serving.port" }}
{{- $seen := dict }}
{{- range $values.env }}
{{- if hasKey $seen .name }}
{{- fail (printf "%s.env sets %s twice: take one of them out of `%s.env`" $component .name $component) }}
{{- end }}
{{- $_ := set $seen .name true }}
{{- if hasKey $own .name }}
{{- fail (printf "%s.env sets %s, which has a value of its own: set `%s`" $component .name (get $own .name)) }}
{{- end }}
{{- if has .name (list "POD_NAMESPACE" "NODE_NAME" "HOST_ROOT" "NVIDIA_VISIBLE_DEVICES") }}
{{- fail (printf "%s.env sets %s, which the chart has to set: take it out of `%s.env`" $component .name $component) }}
{{- end }}
{{- end }}
{{- end }}
