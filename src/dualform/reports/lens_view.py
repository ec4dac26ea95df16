"""What a lens page shows, as plain data: tokens, layers, and what one or two lenses read at each."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dualform.errors import require
from dualform.lenses import LensReading


@dataclass(frozen=True)
class LensView:
    """Everything on a lens page.

    - title: of the page.
    - tokens: one text for each position; untrusted, shown as text and never as markup.
    - readings: by the lens's name, such as "logit lens"; all of the same layers, tokens and outputs.
    - words: what each output that a reading names is called, by number; untrusted, too.
    - following: the number of the output that came next in the text, for each token, None where that is not known.
    - outputs: how many there are.  details: what else a reader should know, shown as it is.
    - beside: the attention page of the same model and text: what the link says, and its relative address; None without one.
    """

    title: str
    tokens: tuple[str, ...]
    readings: Mapping[str, LensReading]
    words: Mapping[int, str]
    outputs: int
    following: tuple[int | None, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[str, str] | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers' names, from the first to the last."""
        return next(iter(self.readings.values())).layers

    def check(self) -> None:
        """Raise `InputError` where readings, tokens and words do not fit together, or a number is not finite."""
        time = len(self.tokens)
        require(time > 0, "there are no tokens to show. Give a text of at least one token.")
        require(len(self.readings) > 0, "there is no reading to show. Give that of a logit lens, or of a tuned one.")
        require(
            len(self.following) in (0, time),
            f"there are {time} tokens, and it is said of {len(self.following)} what came next. Say it of each, or of none.",
        )
        named = {each for each in self.following if each is not None}
        for name, reading in self.readings.items():
            layers, rank = len(self.layers), np.shape(reading.top)[-1]
            shapes = [np.shape(each) for each in reading[1:]]
            wanted = [(layers, time)] * 2 + [(layers, time, rank)] * 2
            require(
                reading.layers == self.layers and shapes == wanted,
                f"the reading of the {name} is of {len(reading.layers)} layers, in shapes {shapes}; for {layers} layers and "
                f"{time} tokens they are {wanted}.",
            )
            for what, values in (("KL", reading.kl), ("entropy", reading.entropy), ("log", reading.log_probability)):
                where = np.argwhere(~np.isfinite(values))
                require(
                    len(where) == 0,
                    f"the {what} of the {name} is not finite at layer {self.layers[where[0][0]] if len(where) else ''!r}, token "
                    f"{where[0][1] if len(where) else 0}. Does the model overflow in its dtype? Load it in a wider one.",
                )
            named |= set(np.unique(reading.top).tolist())
        missing = sorted(named - set(self.words))
        require(
            not missing, f"output {missing[0] if missing else 0} has no name; give one for each that a reading names."
        )
