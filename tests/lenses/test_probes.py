"""Probes: what is planted is found, what is not there is not, and a probe that only remembers is seen through."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.intervals import area_interval, share_interval
from dualform.lenses import probes, trace
from dualform.lenses.probes.control import control_of, controlled
from dualform.lenses.probes.example_rows import examples, parted
from dualform.lenses.probes.labelled import same_texts
from dualform.lenses.probes.linear import BEGIN, EDGES
from dualform.lenses.probes.measured import KINDS, probed
from dualform.lenses.probes.scores import area
from dualform.programs import compile_program
from dualform.programs.library import program

RANDOM = np.random.default_rng(0)
D = 6
U = np.linalg.qr(RANDOM.normal(size=(D, D)))[0][0]


@functools.cache
def planted(rows: int = 300, size: float = 2.5, seed: int = 1):
    """Gaussian rows, moved along U by `size` where the label is 1."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, rows)
    return random.normal(size=(rows, D)) + size * labels[:, None] * U, labels


def test_difference_in_means_is_exact():
    """Every row with either label, moved along one direction: that direction, to rounding."""
    base = RANDOM.normal(size=(40, D))
    x, labels = np.concatenate([base - U, base + U]), np.repeat([0, 1], 40)
    probe = probes.fit_difference(examples(x, labels))
    np.testing.assert_allclose(probe.direction(), U, atol=1e-10)
    np.testing.assert_allclose(probe(base)[:, 1] - probe(base)[:, 0], 2 * (base - base.mean(0)) @ U, atol=1e-10)


def test_lda_sees_through_the_covariance():
    """Of Gaussians of one known covariance, the direction is its inverse times the difference of the means."""
    random = np.random.default_rng(2)
    root = random.normal(size=(D, D)) + 2 * np.eye(D)
    labels = random.integers(0, 2, 20_000)
    x = random.normal(size=(20_000, D)) @ root.T + 2 * labels[:, None] * U
    wanted = np.linalg.solve(root @ root.T, U)
    found = probes.fit_lda(examples(x, labels)).direction()
    assert found @ wanted / np.linalg.norm(wanted) > 0.999
    assert abs(probes.fit_difference(examples(x, labels)).direction() @ wanted) / np.linalg.norm(wanted) < 0.99


@pytest.mark.parametrize("kind", ["linear", "mlp", "difference", "lda"])
def test_what_is_planted_is_found(kind):
    """Each probe has the planted label on texts that it has not seen, and nothing of a label that is drawn."""
    x, labels = planted()
    found = probed(kind, examples(x, labels))
    assert found.accuracy.low < found.accuracy.value > 0.8 and found.area.value > 0.9 and found.by == "shuffled"
    assert found.selectivity > 0.2 and abs(found.majority - 0.5) < 0.1 and (found.fitted, found.scored) == (210, 90)
    drawn = probed(kind, examples(x, np.random.default_rng(9).integers(0, 2, len(x))))
    assert abs(drawn.area.value - 0.5) < 0.2  # three standard errors
    if kind == "linear":
        probe: Any = found.probe
        assert probe.direction() @ U > 0.9 and found.strength in {*BEGIN, *EDGES}


def test_several_labels():
    """Three labels, each along a direction of its own."""
    labels = RANDOM.integers(0, 3, 200)
    x = RANDOM.normal(size=(200, D)) + 4 * np.eye(D)[labels]
    for kind in ("linear", "difference", "lda"):
        found = probed(kind, examples(x, [("a", "b", "c")[i] for i in labels]))
        assert found.accuracy.value > 0.9 and found.area.value > 0.95, kind


def test_what_is_not_linear_needs_a_hidden_layer():
    """Exclusive or: an MLP has it, and no linear probe."""
    x = RANDOM.choice([-1.0, 1.0], (400, 2)) + 0.1 * RANDOM.normal(size=(400, 2))
    labels = x[:, 0] * x[:, 1] > 0
    assert probed("mlp", examples(x, labels)).accuracy.value > 0.95
    assert probed("linear", examples(x, labels)).accuracy.value < 0.75


def test_contrast_finds_what_is_true_without_labels():
    """Statements whose affirmation and denial lie on two sides: the direction is found, and labels only say which end is true."""
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, 120)
    along = (2 * labels - 1)[:, None] * U
    yes, no = (0.2 * random.normal(size=(120, D)) + sign * along + 3 * sign for sign in (1, -1))
    probe = probes.fit_ccs(yes, no, labels)
    assert abs(probe.w @ U) / np.linalg.norm(probe.w) > 0.9 and probe.loss < 0.02
    assert (probe(yes, no).argmax(1) == labels).all() and (probe.turned()(yes, no).argmax(1) != labels).all()
    unlabelled = probes.fit_ccs(yes, no)
    assert np.mean(unlabelled(yes, no).argmax(1) == labels) in (0.0, 1.0)
    found = probed("ccs", examples(np.concatenate([yes, no], 1), labels))
    assert found.accuracy.value == 1.0 > found.control.value


def test_a_probe_that_remembers_types_is_seen_through():
    """Labels that belong to types of tokens, which the activations say: the probe is right, and so is its control."""
    random = np.random.default_rng(4)
    types = random.integers(0, 30, 600)
    x = np.eye(30)[types] + 0.01 * random.normal(size=(600, 30))
    found = probed("linear", examples(x, random.integers(0, 2, 30)[types], types=types))
    assert found.by == "types" and found.accuracy.value > 0.95 and abs(found.selectivity) < 0.1


def test_controls_are_of_types_where_there_are_enough():
    """One token at every probed place, or types that were never fitted: labels are shuffled; and every label stays."""
    x, labels = planted()
    for types in (np.zeros(len(x), int), np.arange(len(x))):
        assert control_of(*parted(examples(x, labels, types=types), 0.3, 0)) == "shuffled"
    fitted, scored = parted(examples(x, labels, types=np.arange(len(x)) % 7), 0.3, 0)
    assert control_of(fitted, scored) == "types"
    one, _ = controlled(fitted, scored, "types", 0)
    assert all(len(set(one.labels[one.types == kind])) <= 2 for kind in range(7)) and set(one.labels) == {0, 1}


def test_texts_do_not_leak():
    """Texts that are there twice, with a label drawn for each text: nothing is told of others, and all of themselves."""
    random = np.random.default_rng(5)
    x = np.repeat(random.normal(size=(60, 80)), 4, 0)
    labels = np.repeat(random.integers(0, 2, 60), 4)
    apart = probed("linear", examples(x, labels, texts=np.repeat(np.arange(60), 4)))
    assert abs(apart.area.value - 0.5) < 0.35
    assert probed("linear", examples(x, labels)).accuracy.low > apart.accuracy.value + 0.15
    fitted, scored = parted(examples(x, labels, texts=np.repeat(np.arange(60), 4)), 0.3, 1)
    assert not set(fitted.texts) & set(scored.texts) and len(fitted.labels) + len(scored.labels) == 240
    # Rows that share a text, also by way of a third one, are of one group.
    assert same_texts([("a",), ("b",), ("a",)]).tolist() == [0, 1, 0]
    assert len(set(same_texts([("a", "b"), ("c", "d"), ("b", "c"), ("e", "f")]).tolist())) == 2


def test_transfer():
    """A probe fitted in one context is scored in another; a context that turns the direction around is below chance."""
    x, labels = planted()
    other, theirs = planted(seed=2)
    fitted = examples(x, labels)
    there = lambda x: examples(x, theirs, texts=np.arange(len(theirs)) + 1000)
    right, found = probes.transferred("difference", fitted, there(other))
    assert right.value > 0.8 and found.value > 0.9
    assert probes.transferred("lda", fitted, there(-other))[1].value < 0.2
    with pytest.raises(InputError, match=r"^300 texts are both fitted and scored"):
        probes.transferred("lda", fitted, examples(other, theirs))
    with pytest.raises(InputError, match=r"^the labels fitted are 0, 1, and those scored False, True; give the same"):
        probes.transferred("lda", fitted, examples(other, theirs > 0, texts=np.arange(300) + 1000))


def test_a_compiled_counter_is_found_where_it_is_held():
    """How many more ones than zeros were read is in the state of the network that counts, and not in what it reads last."""
    compiled = compile_program(program("majority"), "linear-rnn")
    bits = np.random.default_rng(6).integers(0, 2, (200, 9))
    run = jax.vmap(lambda x: trace(compiled.model, x, record=()).state)
    inputs = jnp.asarray(bits, float)[:, :, None]
    held = np.concatenate([np.asarray(leaf).reshape(200, -1) for leaf in jax.tree_util.tree_leaves(run(inputs))], 1)
    labels = 2 * bits.sum(1) > 9
    assert probed("linear", examples(held, labels)).accuracy.value > 0.98
    assert probed("linear", examples(bits[:, -1:], labels)).accuracy.value < 0.8


def test_intervals():
    """Known values; whole shares and areas have an interval, too; more trials make it narrower; a tie is half."""
    np.testing.assert_allclose(share_interval(0.5, 10), (0.2366, 0.7634), atol=1e-4)
    assert share_interval(0.0, 5)[0] == 0.0 and share_interval(1.0, 10)[0] == pytest.approx(0.7225, abs=1e-4)
    low, high = area_interval(0.8, 30, 40)
    assert 0.65 < low < 0.8 < high < 0.9
    np.testing.assert_allclose(area_interval(0.2, 30, 40), (1 - high, 1 - low), atol=1e-9)
    assert area_interval(1.0, 20, 20)[1] == 1.0 and 0.8 < area_interval(1.0, 20, 20)[0] < area_interval(1.0, 90, 90)[0]
    assert area(np.array([0.0, 1, 1, 2]), np.array([0, 0, 1, 1]), np.arange(4)).value == 0.875


BAD = {
    "one label": (lambda x, y: examples(x, y * 0), r"^all 300 examples have the label '0'; a probe tells labels apart"),
    "one text": (
        lambda x, y: examples(x, [2, *y[1:]]),
        r"^the label '2' is on 1 text alone; each of the 3 labels needs two",
    ),
    "no number": (
        lambda x, y: examples(np.where(np.arange(300)[:, None] == 7, np.nan, x), y),
        r"^the activations of row 7 are not finite\.",
    ),
    "counts": (lambda x, y: examples(x, y[1:]), r"^there are 300 rows of activations and 299 labels; give one each\."),
    "more labels than rows": (lambda x, y: examples(x[:4], "abcd"), r"^the label 'a' is on 1 text alone"),
    "no rows": (lambda x, y: examples(x[:0], []), r"^there is no example"),
    "a vector": (lambda x, y: examples(x[:, 0], y), r"^activations have shape \(300,\); give \(row, d\)\."),
    "kind": (lambda x, y: probed("best", examples(x, y)), r"^there is no probe 'best'; there are linear, mlp"),
    "share": (lambda x, y: probed("lda", examples(x, y), held=1.0), r"^the share that is held out is 1\.0"),
    "three for ccs": (
        lambda x, y: probed("ccs", examples(x, np.arange(300) % 3)),
        r"^contrast-consistent search tells true from false; there are the labels 0, 1, 2\.",
    ),
    "shapes for ccs": (lambda x, y: probes.fit_ccs(x, x[1:]), r"^yes has shape \(300, 6\) and no \(299, 6\)"),
    "no labels to peel": (lambda x, y: probes.peeled(x[:2], [["a"], []]), r"^row 1 has no label"),
    "one label to peel": (lambda x, y: probes.peeled(x[:2], [["a"], ["a"]]), r"^every label is 'a'"),
    "one text to peel": (lambda x, y: probes.peeled(x[:2], [["a"], ["b"]], np.zeros(2)), r"^there is 1 text"),
    "lists of labels": (
        lambda x, y: probes.peeled(x, [["a"]]),
        r"^activations have shape \(300, 6\), and there are 1 lists",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_probed_is_said(name):
    """A sentence for each."""
    ask, said = BAD[name]
    with pytest.raises(InputError, match=said):
        ask(*planted())


def test_rare_labels_that_no_split_can_hold():
    """Three texts with two labels each, of which any one lacks the third; of four texts with two labels two are held out."""
    found = examples(np.eye(6), list("acabbc"), texts=[0, 0, 1, 1, 2, 2])
    with pytest.raises(InputError, match=r"^in 100 draws no 1 of the 3 texts had every one of the 3 labels"):
        parted(found, 0.3, 0)
    assert [len(side.labels) for side in parted(examples(np.eye(4), list("abab")), 0.3, 0)] == [2, 2]
    assert set(KINDS) == {"linear", "mlp", "difference", "lda", "ccs"}
