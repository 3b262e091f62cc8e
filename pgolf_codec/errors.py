"""Every error that pgolf-codec raises on purpose.

::

    PgolfError
    ├── ConfigError (ValueError)        a model or training configuration is not possible
    ├── ModelError                      no usable model
    │   ├── ModelNotFoundError          neither an embedded model's name nor a file
    │   └── WrongModelError             the archive was made with another model
    ├── FormatError (ValueError)        the bytes are not what they should be
    │   ├── NotAnArchiveError           the magic number is missing
    │   ├── UnsupportedVersionError     written by a version that this one can't read
    │   ├── CorruptError                a checksum, size or digest does not hold
    │   └── TruncatedError (EOFError)   the data ends too early
    ├── OutputLimitError                more output than the caller allowed
    ├── RefusedError                    a file is left alone, for its safety or the user's
    └── VerificationError               a claim of a receipt does not hold
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgolf_codec.eval.receipt import Receipt


class PgolfError(Exception):
    """Base of all errors of this package."""


class ConfigError(PgolfError, ValueError):
    """A model or training configuration is not possible; names the key."""


class ModelError(PgolfError):
    """No usable model."""


class ModelNotFoundError(ModelError):
    """Neither the name of an embedded model nor a readable file."""


class WrongModelError(ModelError):
    """The archive was made with another model; both fingerprints are named."""


class FormatError(PgolfError, ValueError):
    """The bytes are not what they should be."""


class NotAnArchiveError(FormatError):
    """The magic number is missing: not a file of this kind."""


class UnsupportedVersionError(FormatError):
    """The format or numerics version is one that this release can't read."""


class CorruptError(FormatError):
    """A checksum, a size or a digest does not hold; says where."""


class TruncatedError(FormatError, EOFError):
    """The data ends before its own end mark."""


class OutputLimitError(PgolfError):
    """The output would exceed the limit that the caller set."""


class RefusedError(PgolfError):
    """A file is left alone: it exists, is a directory, is of another kind; says why."""

    def __init__(self, path: object, why: str) -> None:
        super().__init__(f"{path}: {why}")


class VerificationError(PgolfError):
    """A claim about an archive does not hold; says which.

    ``receipt`` is the whole :class:`~pgolf_codec.eval.receipt.Receipt`.
    """

    def __init__(self, message: str, receipt: Receipt) -> None:
        super().__init__(message)
        self.receipt = receipt
