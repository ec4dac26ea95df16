"""Every paper of which results can be reproduced, and what is meant by names on the command line.

A paper is a folder beside this file, and a line in `PAPERS`.
"""

from collections.abc import Sequence

from dualform.errors import InputError, require
from dualform.experiments.aaren.paper import AAREN
from dualform.experiments.chung.paper import CHUNG
from dualform.experiments.gated_rnn.paper import GATED_RNN
from dualform.experiments.griffin.paper import GRIFFIN
from dualform.experiments.gsa.paper import GSA
from dualform.experiments.hgrn2.paper import HGRN2
from dualform.experiments.hmm.paper import HMM
from dualform.experiments.implicit_attention.paper import IMPLICIT_ATTENTION
from dualform.experiments.lsrl.paper import LSRL
from dualform.experiments.minimal.paper import MINIMAL
from dualform.experiments.mqar.paper import MQAR
from dualform.experiments.onion.paper import ONION
from dualform.experiments.reproduction import Paper
from dualform.experiments.state_tracking.paper import STATE_TRACKING
from dualform.experiments.tova.paper import TOVA
from dualform.experiments.tpgn.paper import TPGN
from dualform.experiments.transfer.paper import TRANSFER
from dualform.experiments.wave.paper import WAVE

_LISTED = (
    GATED_RNN,
    TPGN,
    WAVE,
    TOVA,
    IMPLICIT_ATTENTION,
    CHUNG,
    MINIMAL,
    MQAR,
    HGRN2,
    GSA,
    AAREN,
    STATE_TRACKING,
    GRIFFIN,
    LSRL,
    TRANSFER,
    HMM,
    ONION,
)
PAPERS: dict[str, Paper] = {paper.name: paper for paper in _LISTED}
"""By name, in the order in which they are listed."""

ALL = "all"


def chosen(names: Sequence[str]) -> list[tuple[Paper, tuple[str, ...]]]:
    """What names stand for: a paper, for all of its results; a paper and some of them; or `all`, for all papers.

    The name of a paper may be left out where only one has a result of the name that comes first.

    **Returns:** papers, each with the names of its results that are meant.

    **Raises:** `InputError` for a name that is unknown or of several papers, listing what there is.
    """
    first, *rest = names
    if first == ALL:
        require(not rest, f"{ALL} is every result of every paper; leave out {', '.join(map(repr, rest))}.")
        return [(paper, tuple(paper.results)) for paper in PAPERS.values()]
    if first in PAPERS:
        return [(PAPERS[first], _of(PAPERS[first], rest) or tuple(PAPERS[first].results))]
    having = [paper for paper in PAPERS.values() if first in paper.results]
    if len(having) > 1:
        said = " or ".join(f"{paper.name} {first}" for paper in having)
        raise InputError(f"several papers have a result {first!r}: say {said}.")
    require(len(having) == 1, f"there is no paper and no result {first!r}; there are {_listed()}, and {ALL}.")
    return [(having[0], _of(having[0], names))]


def _of(paper: Paper, names: Sequence[str]) -> tuple[str, ...]:
    """The names, once each, if all are results of a paper."""
    for name in names:
        require(
            name in paper.results,
            f"{paper.name} has no result {name!r}; it has {', '.join(paper.results)}. Leave it out for all of them.",
        )
    return tuple(dict.fromkeys(names))


def _listed() -> str:
    return "; ".join(f"{paper.name} ({', '.join(paper.results)})" for paper in PAPERS.values())
