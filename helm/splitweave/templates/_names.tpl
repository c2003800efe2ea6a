{{- define "splitweave.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "splitweave.labels" -}}
app.kubernetes.io/name: splitweave
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "splitweave.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* What every container that speaks to Ray is told: from 2.60 on Ray asks for a token. */}}
{{- define "splitweave.rayEnv" -}}
- name: RAY_AUTH_MODE
  value: token
- name: RAY_AUTH_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "splitweave.name" . }}-ray-token
      key: token
- name: PYTHONSAFEPATH
  value: "1"
{{- end }}

{{- define "splitweave.modelMount" -}}
{{- if .Values.models.claim }}
- name: models
  mountPath: {{ .Values.models.mountPath }}
  readOnly: true
{{- end }}
{{- end }}

{{- define "splitweave.modelVolume" -}}
{{- if .Values.models.claim }}
- name: models
  persistentVolumeClaim:
    claimName: {{ .Values.models.claim }}
    readOnly: true
{{- end }}
{{- end }}
