"""Tasks: where sequences come from."""

from dualform.tasks.in_context import (
    InContextRegression,
    gd_attention,
    gradient_descent,
    last_output,
    last_output_loss,
    steps_loss,
)
from dualform.tasks.recall import AssociativeRecall, recall_accuracy, recall_loss
from dualform.tasks.teacher import Teacher
from dualform.tasks.teacher_student import TeacherStudent
from dualform.tasks.token_recall import RecallSample, TokenRecall

__all__ = [
    "AssociativeRecall",
    "InContextRegression",
    "RecallSample",
    "Teacher",
    "TeacherStudent",
    "TokenRecall",
    "gd_attention",
    "gradient_descent",
    "last_output",
    "last_output_loss",
    "recall_accuracy",
    "recall_loss",
    "steps_loss",
]
