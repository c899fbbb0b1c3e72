{{- define "faceproof.labels" -}}
app.kubernetes.io/name: faceproof
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "faceproof.selector" -}}
app.kubernetes.io/name: faceproof
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "faceproof.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "faceproof.pod" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: { type: RuntimeDefault }
automountServiceAccountToken: false
volumes:
  - name: tmp
    emptyDir: { sizeLimit: 4Gi }
  - name: data
    {{- if .Values.storage }}
    emptyDir: { sizeLimit: 20Gi }
    {{- else }}
    persistentVolumeClaim: { claimName: {{ .Release.Name }}-data }
    {{- end }}
{{- end }}

{{- define "faceproof.container" -}}
image: {{ include "faceproof.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
envFrom:
  - secretRef: { name: {{ .Values.existingSecret }} }
  - configMapRef: { name: {{ .Release.Name }}-settings }
volumeMounts:
  - { name: tmp, mountPath: /tmp }
  - { name: data, mountPath: /data }
{{- end }}
