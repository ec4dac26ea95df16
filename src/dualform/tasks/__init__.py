"""Tasks: where sequences come from, what is read and given, and how it is judged."""

from dualform.tasks.adding import Adding
from dualform.tasks.arithmetic import BracketedArithmetic, ModularArithmetic
from dualform.tasks.carried import get
from dualform.tasks.chomsky import (
    BucketSort,
    CycleNavigation,
    EvenPairs,
    Majority,
    MissingDuplicate,
    Parity,
    ReverseString,
    StackManipulation,
)
from dualform.tasks.copying import Copy
from dualform.tasks.events import Events
from dualform.tasks.forecast import Forecast
from dualform.tasks.hmm import HiddenMarkov
from dualform.tasks.images import Digits, FashionMNIST
from dualform.tasks.in_context import (
    InContextRegression,
    gd_attention,
    gradient_descent,
    last_output,
    last_output_loss,
    steps_loss,
)
from dualform.tasks.induction import Induction
from dualform.tasks.mnist1d import MNIST1D
from dualform.tasks.multi_query_recall import MultiQueryRecall
from dualform.tasks.music import Music
from dualform.tasks.recall import AssociativeRecall, recall_accuracy, recall_loss
from dualform.tasks.registration import known, named, register
from dualform.tasks.regression import RegressionInContext
from dualform.tasks.repeat import Repeat
from dualform.tasks.selective_copy import SelectiveCopy
from dualform.tasks.series import Series
from dualform.tasks.state_tracking import StateTracking
from dualform.tasks.strings import Strings
from dualform.tasks.task import AbstractTask, DrawnTask, StoredTask
from dualform.tasks.teacher import Teacher
from dualform.tasks.teacher_student import TeacherStudent
from dualform.tasks.text import Text
from dualform.tasks.token_recall import RecallSample, TokenRecall

__all__ = [
    "AbstractTask",
    "Adding",
    "AssociativeRecall",
    "BracketedArithmetic",
    "BucketSort",
    "Copy",
    "CycleNavigation",
    "Digits",
    "DrawnTask",
    "EvenPairs",
    "Events",
    "FashionMNIST",
    "Forecast",
    "HiddenMarkov",
    "InContextRegression",
    "Induction",
    "MNIST1D",
    "Majority",
    "MissingDuplicate",
    "ModularArithmetic",
    "MultiQueryRecall",
    "Music",
    "Parity",
    "RecallSample",
    "RegressionInContext",
    "Repeat",
    "ReverseString",
    "SelectiveCopy",
    "Series",
    "StackManipulation",
    "StateTracking",
    "StoredTask",
    "Strings",
    "Teacher",
    "TeacherStudent",
    "Text",
    "TokenRecall",
    "gd_attention",
    "get",
    "gradient_descent",
    "known",
    "last_output",
    "last_output_loss",
    "named",
    "recall_accuracy",
    "recall_loss",
    "register",
    "steps_loss",
]
