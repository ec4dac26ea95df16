"""The commands of the command line, one file each: their arguments, and what they do with the package."""

from dualform.commands.attend import Attend
from dualform.commands.compare import Compare
from dualform.commands.compile import Compile
from dualform.commands.construct import Construct
from dualform.commands.discover import Discover
from dualform.commands.generate import Generate
from dualform.commands.lens import Lens
from dualform.commands.memory import Memory
from dualform.commands.mixers import Mixers
from dualform.commands.models import Models
from dualform.commands.perplexity import Perplexity
from dualform.commands.probe import Probe
from dualform.commands.reproduce import Reproduce
from dualform.commands.serve import Serve
from dualform.commands.steer import Steer
from dualform.commands.sweep import Sweep
from dualform.commands.tasks import Tasks
from dualform.commands.train import Train
from dualform.commands.view import View

__all__ = [
    "Attend",
    "Compare",
    "Compile",
    "Construct",
    "Discover",
    "Generate",
    "Lens",
    "Memory",
    "Mixers",
    "Models",
    "Perplexity",
    "Probe",
    "Reproduce",
    "Serve",
    "Steer",
    "Sweep",
    "Tasks",
    "Train",
    "View",
]
