"""Tasks: where sequences come from, what is read and given, and how it is judged."""

from dualform.tasks.adding import Adding
from dualform.tasks.in_context import (
    InContextRegression,
    gd_attention,
    gradient_descent,
    last_output,
    last_output_loss,
    steps_loss,
)
from dualform.tasks.recall import AssociativeRecall, recall_accuracy, recall_loss
from dualform.tasks.registration import known, named, register
from dualform.tasks.selective_copy import SelectiveCopy
from dualform.tasks.task import AbstractTask, DrawnTask, StoredTask
from dualform.tasks.teacher import Teacher
from dualform.tasks.teacher_student import TeacherStudent
from dualform.tasks.text import Text
from dualform.tasks.token_recall import RecallSample, TokenRecall

__all__ = [
    "AbstractTask",
    "Adding",
    "AssociativeRecall",
    "DrawnTask",
    "InContextRegression",
    "RecallSample",
    "SelectiveCopy",
    "StoredTask",
    "Teacher",
    "TeacherStudent",
    "Text",
    "TokenRecall",
    "gd_attention",
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
