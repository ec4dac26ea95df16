"""Programs that come with the package: counts, brackets, sorting, copies, attention, universal approximation."""

from dualform.programs.library import attention as _attention
from dualform.programs.library import brackets as _brackets
from dualform.programs.library import copying as _copying
from dualform.programs.library import counting as _counting
from dualform.programs.library import delays as _delays
from dualform.programs.library import in_context_map as _in_context_map
from dualform.programs.library import sorting as _sorting
from dualform.programs.library import tok2tok as _tok2tok
from dualform.programs.library import vec2vec as _vec2vec
from dualform.programs.library.registration import Entry, library, program, register

__all__ = ["Entry", "library", "program", "register"]

del _attention, _brackets, _copying, _counting, _delays, _in_context_map, _sorting, _tok2tok, _vec2vec
