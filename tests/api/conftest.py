"""Manifests that the tests of the API share."""

import pytest

FULL_MODEL = """\
apiVersion: rerank.dev/v1alpha1
kind: RerankModel
metadata:
  name: bge-reranker-v2-m3
  namespace: search
  labels: {team: search}
  annotations: {note: "on"}
spec:
  source:
    huggingFace:
      repo: BAAI/bge-reranker-v2-m3
      revision: 953dc6f
      tokenSecret: {name: hf, key: token}
  names: [bge-reranker-v2-m3, BAAI/bge-reranker-v2-m3, "bge:v2@prod"]
  weight: 95
  scoring:
    family: auto
    activation: sigmoid
    instruction: Find passages that answer the question
    maxLength: 1024
    dtype: bfloat16
    truncate: error
  verify:
    required: false
    goldens:
      - query: what is panda?
        documents: [hi, The giant panda is a bear.]
        scores: [-8.1875, 5]
        tolerance: 0.05
  autoscaling: {minReplicas: 0, maxReplicas: 8, targetQueueSeconds: 1, idleAfter: 1h30m}
  profile: nvidia-h100
  resources:
    limits: {nvidia.com/gpu: 1, memory: 16Gi}
    requests: {cpu: "1.5"}
    claims: [{name: gpu, request: one}]
  cache:
    emptyDir: {sizeLimit: 20Gi, medium: Memory}
  ingress: {host: bge.example.com}
  template:
    labels: {app.kubernetes.io/part-of: search}
    annotations: {note: "1e3"}
    image: registry.example.com/rerank/server:1
    imagePullPolicy: IfNotPresent
    imagePullSecrets: [{name: registry}]
    serviceAccountName: reranker
    runtimeClassName: nvidia
    priorityClassName: high
    schedulerName: default-scheduler
    nodeSelector: {disk: ssd}
    tolerations:
      - {key: nvidia.com/gpu, operator: Equal, value: "true", effect: NoExecute, tolerationSeconds: 60}
    affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}}}
    topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]
    resourceClaims:
      - {name: gpu, resourceClaimTemplateName: one-gpu}
      - {name: shared, resourceClaimName: shared-gpu}
    env:
      - {name: HF_ENDPOINT, value: "https://mirror.example.com"}
      - {name: TOKEN, valueFrom: {secretKeyRef: {name: hf, key: token}}}
    envFrom: [{configMapRef: {name: settings, optional: true}}]
    volumes:
      - {name: scratch, emptyDir: {}}
      - {name: settings, configMap: {name: settings, defaultMode: 0644}}
    volumeMounts: [{name: scratch, mountPath: /scratch, subPath: bge, readOnly: true}]
    podSecurityContext: {fsGroup: 1000}
    securityContext: {readOnlyRootFilesystem: true}
    terminationGracePeriodSeconds: 60
"""

CONSUMER = """\
apiVersion: rerank.dev/v1alpha1
kind: RerankConsumer
metadata: {name: team.search}
spec:
  keySecret: {name: team-search}
  models: ["*"]
  limits: {requestsPerMinute: 600, tokensPerMinute: 1000000}
"""


@pytest.fixture(scope="session")
def full_model() -> str:
    """A RerankModel with every field that may stand beside the others."""
    return FULL_MODEL


@pytest.fixture(scope="session")
def consumer() -> str:
    """A RerankConsumer with every field."""
    return CONSUMER


@pytest.fixture(scope="session")
def model_with() -> "ModelWith":
    """Builds the text of a small RerankModel from lines under `spec`."""
    return ModelWith()


class ModelWith:
    """Builds manifests; calling it gives one with these lines under `spec`, of which the first is line 5."""

    def __call__(self, *spec: str, name: str = "bge") -> str:
        lines = [
            "apiVersion: rerank.dev/v1alpha1",
            "kind: RerankModel",
            f"metadata: {{name: {name}}}",
            "spec:",
            *(f"  {line}" for line in spec),
        ]
        return "\n".join(lines) + "\n"
