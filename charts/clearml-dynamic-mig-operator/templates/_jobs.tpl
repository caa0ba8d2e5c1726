{{- /* The spec of a Job that runs one verb of `cdmo` once, where the controller may run; call with
(list $ "settle" SECONDS ARGUMENTS). It is never tried twice: its answer would be the same, and whoever waits for it
would wait longer. */ -}}
{{- define "cdmo.jobSpec" -}}
{{- $root := index . 0 }}
{{- $component := index . 1 }}
{{- $values := $root.Values.controller -}}
backoffLimit: 0
activeDeadlineSeconds: {{ index . 2 }}
template:
  metadata:
    labels: {{- include "cdmo.selector" $component | nindent 6 }}
  spec:
    serviceAccountName: cdmo-{{ $component }}
    automountServiceAccountToken: true
    restartPolicy: Never
    {{- include "cdmo.pullSecrets" $root | nindent 4 }}
    {{- with $values.priorityClassName }}
    priorityClassName: {{ quote . }}
    {{- end }}
    {{- with $values.nodeSelector }}
    nodeSelector: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $values.tolerations }}
    tolerations: {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- if $values.affinity }}
    affinity: {{- toYaml $values.affinity | nindent 6 }}
    {{- else if $values.keepOffGpuNodes }}
    affinity: {{- include "cdmo.offGpuNodes" $root | nindent 6 }}
    {{- end }}
    securityContext: {{- include "cdmo.restrictedPod" $root | nindent 6 }}
    containers:
    - name: {{ $component }}
      image: {{ include "cdmo.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      command: [cdmo, {{ $component }}]
      args: {{- toYaml (index . 3) | nindent 6 }}
      env:
      - name: POD_NAMESPACE
        valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
      {{- include "cdmo.environment" (list $root $values.env) | nindent 6 }}
      resources: {{- toYaml $values.resources | nindent 8 }}
      securityContext: {{- include "cdmo.restrictedContainer" $root | nindent 8 }}
{{- end }}
