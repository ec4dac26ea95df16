"""Tasks: where sequences come from."""

from dualform.tasks.teacher import Teacher
from dualform.tasks.teacher_student import TeacherStudent

__all__ = ["Teacher", "TeacherStudent"]
