"""Every error that dreamsplat raises for something a user can mend.

DreamsplatError
├── InvalidInput          a value, shape, prompt or option that cannot be used
│   └── UnknownWord       a prompt holds a word that the bundled models never saw
├── FileProblem           a file that is missing, corrupt, of an unknown kind, or cannot be written
├── MissingDependency     an optional package is needed; the message holds the install command
├── DeviceUnavailable     the device asked for is not on this machine
└── Diverged              a run whose numbers overflow, or whose object vanishes or grows without bound

A message says what was received, what was expected and what to do, in one line. The command line prints it and exits
with code 2. Mistakes that only this package can make are `assert`s instead.
"""


def printable(text: str) -> str:
    """The text in one line of visible letters: what a stranger's file or path says must not command a terminal."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


class DreamsplatError(Exception):
    """Base of all errors raised on purpose by dreamsplat."""

    def __init__(self, message: str) -> None:
        """Keep the message, made printable."""
        super().__init__(printable(message))


class InvalidInput(DreamsplatError, ValueError):
    """A value, shape, prompt or option that cannot be used."""


class UnknownWord(InvalidInput):
    """A prompt holds a word that the bundled models never saw."""


class FileProblem(DreamsplatError, OSError):
    """A file that is missing, corrupt, of an unknown kind, or that cannot be written."""


class MissingDependency(DreamsplatError, ImportError):
    """An optional package is needed; the message holds the install command."""


class DeviceUnavailable(DreamsplatError, RuntimeError):
    """The device asked for is not on this machine."""


class Diverged(DreamsplatError, ArithmeticError):
    """A run whose numbers overflow, or whose object vanishes or grows without bound."""
