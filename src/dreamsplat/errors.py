"""Every error that dreamsplat raises for something the user can fix.

DreamsplatError
├── InvalidInput          a value, shape, prompt or option that cannot be used
│   └── UnknownWord       a prompt holds a word that the bundled models do not know
├── FileProblem           a file that is missing, corrupt, of an unknown kind, or cannot be written
├── MissingDependency     an optional package is needed; the message holds the install command
├── DeviceUnavailable     the requested device is not on this machine, or is too small
└── Diverged              a run whose numbers overflow, or whose object vanishes or grows without bound

A message says what was received and what was expected; the advice says what to do. Both name settings as Python does,
`representation.densify.every`, between backticks; the command line shows those as flags, prints one line and exits with
code 2. Mistakes that only this package can make are `assert`s instead.
"""


def printable(text: str) -> str:
    """The text on one line of visible letters: a stranger's file or path must not send commands to a terminal."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


class DreamsplatError(Exception):
    """Base of all errors raised on purpose by dreamsplat."""

    message: str
    """What was received, and what was expected."""
    setting: str
    """The setting of `DreamConfig` at fault, such as "loss.guidance_scale"; "" where none is."""
    advice: str
    """What to do; "" where the message says it."""

    def __init__(self, message: str, *, setting: str = "", advice: str = "") -> None:
        """Keep the parts, made printable. `str()` joins them: "setting: message advice"."""
        self.message, self.setting, self.advice = printable(message), setting, printable(advice)
        text = f"{setting}: {self.message}" if setting else self.message
        super().__init__(f"{text} {self.advice}" if advice else text)


class InvalidInput(DreamsplatError, ValueError):
    """A value, shape, prompt or option that cannot be used."""


class UnknownWord(InvalidInput):
    """A prompt holds a word that the bundled models do not know."""


class FileProblem(DreamsplatError, OSError):
    """A file that is missing, corrupt, of an unknown kind, or that cannot be written."""


class MissingDependency(DreamsplatError, ImportError):
    """An optional package is needed; the message holds the install command."""


class DeviceUnavailable(DreamsplatError, RuntimeError):
    """The requested device is not on this machine, or is too small."""


class Diverged(DreamsplatError, ArithmeticError):
    """A run whose numbers overflow, or whose object vanishes or grows without bound."""
