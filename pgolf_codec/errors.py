"""Every error that pgolf-codec raises on purpose.

::

    PgolfError
    ├── ConfigError (ValueError)        a model or training configuration is not possible
    │   └── ExportError                 the integer engine lacks a part of the model; names it
    ├── ModelError                      no usable model
    │   ├── ModelNotFoundError          neither an embedded model's name nor a file
    │   ├── WrongModelError             the archive was made with another model
    │   └── LossyTokenizerError         the model's tokenizer can't carry every byte
    ├── FormatError (ValueError)        the bytes are not what they should be
    │   ├── NotAnArchiveError           the magic number is missing
    │   ├── UnsupportedVersionError     written by a version that this one can't read
    │   ├── CorruptError                a checksum, size or digest does not hold
    │   └── TruncatedError (EOFError)   the data ends too early
    ├── CoderError (ValueError)         a coder can't hold these values
    │   └── CoderNotFoundError          no coder of that name, or it can't be loaded
    ├── TensorError (ValueError)        a tensor that can't be packed; names it
    ├── BudgetError                     no quantization lands under a cap of bytes
    ├── MissingPackageError             an optional package is not installed; says which
    ├── DataError                       no data set to train on
    │   ├── DownloadError               the hub can't be reached, or has not what it should have
    │   └── OverlapError                validation documents occur in the training text
    ├── DivergedError (FloatingPointError)  a loss that is not finite ended a training run
    ├── SubmissionError (ValueError)    runs from which no submission can be made
    ├── DeviceError                     no such device, or torch can't use it
    ├── OutputLimitError                more output than the caller allowed
    ├── PredictorError                  a foreign predictor fails, or breaks its protocol
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


class ExportError(ConfigError):
    """The integer engine lacks a part of the model; names the switch, and says why."""


class ModelError(PgolfError):
    """No usable model."""


class ModelNotFoundError(ModelError):
    """Neither the name of an embedded model nor a readable file."""


class WrongModelError(ModelError):
    """The archive was made with another model; both fingerprints are named."""


class LossyTokenizerError(ModelError):
    """The model's tokenizer has no symbol for some byte: it can score, not compress."""


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


class CoderError(PgolfError, ValueError):
    """An entropy coder can't hold these values."""


class CoderNotFoundError(CoderError):
    """No coder has this name, or its package can't be loaded."""


class TensorError(PgolfError, ValueError):
    """A tensor that can't be packed as asked; names it."""


class BudgetError(PgolfError):
    """No steps of the quantizer land just under the cap of bytes; says what came nearest."""


class MissingPackageError(PgolfError):
    """A package that is an option of this one is not installed; says what to install."""


class DataError(PgolfError):
    """No data set to train on."""


class DownloadError(DataError):
    """A file can't be had from the hub, or is not the one that the hub promised; names it."""


class OverlapError(DataError):
    """Documents of the validation split occur in the training text; says how many."""


class DivergedError(PgolfError, FloatingPointError):
    """The loss of a training run is not finite; says at which step."""


class SubmissionError(PgolfError, ValueError):
    """Runs from which no submission can be made; says what is missing or too much."""


class DeviceError(PgolfError):
    """There is no such device, or the installed torch can't use it."""


class OutputLimitError(PgolfError):
    """The output would exceed the limit that the caller set."""


class PredictorError(PgolfError):
    """A foreign predictor can't be loaded, fails, breaks its protocol or passes a limit."""


class RefusedError(PgolfError):
    """A file is left alone: it exists, is a directory, is of another kind; says why."""

    def __init__(self, path: object, why: str) -> None:
        super().__init__(path, why)  # pickle, by which other ranks hear of it, calls this again

    def __str__(self) -> str:
        path, why = self.args
        return f"{path}: {why}"


class VerificationError(PgolfError):
    """A claim about an archive does not hold; says which.

    ``receipt`` is the whole :class:`~pgolf_codec.eval.receipt.Receipt`.
    """

    def __init__(self, message: str, receipt: Receipt) -> None:
        super().__init__(message, receipt)
        self.receipt = receipt

    def __str__(self) -> str:
        return str(self.args[0])
