from .checkpoints import Checkpoint, newest_checkpoint, read_checkpoint
from .events import Event, Failed, Finished, Saved, Started, Stepped, Stop, Warned
from .execute import execute
from .folder import Pictures, read_config
from .lock import Owner, holder
from .record import Record, read_record
from .summary import Summary, find_runs, summarise

__all__ = [
    "Checkpoint",
    "Event",
    "Failed",
    "Finished",
    "Owner",
    "Pictures",
    "Record",
    "Saved",
    "Started",
    "Stepped",
    "Stop",
    "Summary",
    "Warned",
    "execute",
    "find_runs",
    "holder",
    "newest_checkpoint",
    "read_checkpoint",
    "read_config",
    "read_record",
    "summarise",
]
