"""`dualform probe`: what can be read off a model's activations, layer by layer, beside a control task."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional

from dualform.commands import flags
from dualform.commands.flags import option
from dualform.commands.options import Options
from dualform.errors import require


@dataclass(frozen=True)
class Probe(Options):
    """Fit a probe to a language model's activations at each layer, and score it on texts that it was not fitted to.

    Beside it stand the accuracy of always saying the commonest label, and that of the same probe on labels that say nothing.
    """

    model: Annotated[Positional[str], flags.LOOKED_INTO]
    data: Annotated[
        Path,
        flags.data(
            'A line of JSON for each example: {"text": ..., "label": ...}, and "token": N or "char": N for the token that is '
            'probed, the last if neither is there. For ccs {"yes": ..., "no": ..., "label": true or false}; for onion the label '
            "is a list, of what the token's state holds."
        ),
    ]
    kind: Annotated[
        Literal["linear", "mlp", "difference", "lda", "ccs", "onion"],
        option(
            None,
            "The probe. linear: logistic regression, its penalty chosen by cross-validation. mlp: one hidden layer. difference: "
            "in means. lda: linear discriminant analysis. ccs: found without labels, by contrast. onion: labels peeled off one "
            "by one.",
        ),
    ] = "linear"
    layer: Annotated[
        str, flags.layer("Such as 'block 2'; 'block 2.state' is what it remembers, 'block 2.mixer.out' a part of it.")
    ] = "all"
    seed: Annotated[int, flags.seed("Of which texts are scored, and of the control's labels.")] = 0

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.checkpoints.loading import load
        from dualform.commands.perplexity import language_model
        from dualform.lenses.probes.places import checked_layer, layers_of
        from dualform.reports.terminal import Terminal
        from dualform.reports.terminal import probe as prints

        self.check_options()
        loaded = language_model(load(self.model))
        layers = layers_of(loaded.model) if self.layer == "all" else (self.layer,)
        for layer in layers:
            checked_layer(loaded.model, layer)
        terminal = Terminal()
        found = _peeled if self.kind == "onion" else _contrasted if self.kind == "ccs" else _probed
        begun = False
        for layer, row in found(self, loaded, layers):
            if not begun:
                prints.head(terminal, self.kind, loaded.name, str(self.data), row)
                begun = True
            prints.row(terminal, layer, row)
        return 0


def _probed(given: Probe, loaded: Any, layers: tuple[str, ...]):
    """Each layer with what a probe of one label tells."""
    from dualform.lenses.probes.example_rows import examples
    from dualform.lenses.probes.labelled import labelled_texts
    from dualform.lenses.probes.measured import check_parted, probed
    from dualform.lenses.probes.places import activations

    found = labelled_texts(given.data, loaded)
    check_parted(found.labels, found.groups, given.seed)
    for layer, x in activations(loaded.model, found.texts, found.at, layers).items():
        yield layer, probed(given.kind, examples(x, found.labels, found.groups, found.types), seed=given.seed)


def _contrasted(given: Probe, loaded: Any, layers: tuple[str, ...]):
    """Each layer with what contrast-consistent search finds."""
    import numpy as np

    from dualform.lenses.probes.example_rows import examples
    from dualform.lenses.probes.labelled import contrasted_texts
    from dualform.lenses.probes.measured import check_parted, probed
    from dualform.lenses.probes.places import activations

    yes, no = contrasted_texts(given.data, loaded)
    check_parted(yes.labels, yes.groups, given.seed)
    sides = [activations(loaded.model, side.texts, side.at, layers) for side in (yes, no)]
    for layer in layers:
        x = np.concatenate([side[layer] for side in sides], axis=1)
        yield layer, probed("ccs", examples(x, yes.labels, yes.groups, yes.types), seed=given.seed)


def _peeled(given: Probe, loaded: Any, layers: tuple[str, ...]):
    """Each layer with what an onion probe peels off."""
    from dualform.lenses.probes.labelled import labelled_texts
    from dualform.lenses.probes.peeling import peeled, table_of
    from dualform.lenses.probes.places import activations

    found = labelled_texts(given.data, loaded, lists=True)
    table_of(found.labels)
    require(
        len(set(found.groups.tolist())) >= 2,
        f"{str(given.data)!r} has one text alone; give at least two, one to fit and one to be scored on.",
    )
    for layer, x in activations(loaded.model, found.texts, found.at, layers).items():
        yield layer, peeled(x, found.labels, found.groups, seed=given.seed)
