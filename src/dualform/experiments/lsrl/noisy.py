"""A program's path as matrices whose entries take noise: what the numbers of a program are worth where they are not exact."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from dualform.programs.graph import Block, Form
from dualform.programs.path import Path, lanes_of, rows


@dataclass(frozen=True)
class Affine:
    """w x[atoms] + b; the numbers of w and b that are not 0 take noise.

    - atoms: those that it reads at all, for each column of w.
    """

    w: Float[np.ndarray, "rows columns"]
    b: Float[np.ndarray, " rows"]
    atoms: Int[np.ndarray, " columns"]

    @classmethod
    def of(cls, forms: Iterable[Form], count: int) -> "Affine":
        """Forms of so many atoms."""
        w, b = rows(list(forms), lanes_of(range(count)), count)
        atoms = np.flatnonzero(np.any(w != 0, axis=0))
        return cls(w[:, atoms], b, atoms)

    def noisy(self, random: np.random.Generator, noise: float) -> "Affine":
        """With N(0, noise^2) added to each number that is not 0."""
        return Affine(_noisy(self.w, random, noise), _noisy(self.b, random, noise), self.atoms)

    def __call__(self, x: Float[np.ndarray, "*batch all"]) -> Float[np.ndarray, "*batch rows"]:
        """What it gives of all atoms."""
        return x[..., self.atoms] @ self.w.T + self.b


def _noisy(numbers: np.ndarray, random: np.random.Generator, noise: float) -> np.ndarray:
    return np.where(numbers != 0, numbers + noise * random.standard_normal(numbers.shape), numbers)


@dataclass(frozen=True)
class MatrixLayer:
    """A layer of a path: s_t = carry s_{t-1} + drive(given), then max(relu(.), 0), and left(.) * right(.).

    - states, relus, products: the atoms that each of them gives.
    """

    carry: Float[np.ndarray, "states states"]
    drive: Affine
    relu: Affine
    left: Affine
    right: Affine
    states: np.ndarray
    relus: np.ndarray
    products: np.ndarray

    def noisy(self, random: np.random.Generator, noise: float) -> "MatrixLayer":
        """With noise in every number that is not 0."""
        affine = [each.noisy(random, noise) for each in (self.drive, self.relu, self.left, self.right)]
        return MatrixLayer(_noisy(self.carry, random, noise), *affine, self.states, self.relus, self.products)  # pyright: ignore[reportCallIssue] - four

    def units(self, x: Float[np.ndarray, "*batch atoms"]) -> None:
        """Write what the units give into the atoms."""
        x[..., self.relus] = np.maximum(self.relu(x), 0)
        x[..., self.products] = self.left(x) * self.right(x)


@dataclass(frozen=True)
class Matrices:
    """A path in float64, as it is or with noise.

    - width: entries of an input.  atoms: of the path.
    """

    width: int
    atoms: int
    layers: tuple[MatrixLayer, ...]
    outputs: Affine

    @classmethod
    def of(cls, path: Path) -> "Matrices":
        """A path's numbers."""
        n = path.graph.atoms
        affine = lambda forms: Affine.of(forms, n)
        layers = []
        for layer in path.layers:
            states = np.array(layer.states, int)
            at = {atom: i for i, atom in enumerate(layer.states)}
            carry = np.zeros((len(states), len(states)))
            for block in layer.blocks:
                assert isinstance(block.step, Block)
                for row, entries in enumerate(block.step.matrix):
                    for column, entry in entries.items():
                        carry[at[block.first + row], at[block.first + column]] = float(entry)
            layers.append(
                MatrixLayer(
                    carry,
                    affine(form for block in layer.blocks for form in block.step.forms),
                    affine(each.step.forms[0] for each in layer.relus),
                    affine(each.step.forms[0] for each in layer.products),
                    affine(each.step.forms[1] for each in layer.products),
                    states,
                    np.array([each.first for each in layer.relus], int),
                    np.array([each.first for each in layer.products], int),
                )
            )
        return cls(path.graph.width, n, tuple(layers), affine(path.graph.outputs))

    def noisy(self, random: np.random.Generator, noise: float) -> "Matrices":
        """With N(0, noise^2) added to every number that is not 0."""
        layers = tuple(layer.noisy(random, noise) for layer in self.layers)
        return Matrices(self.width, self.atoms, layers, self.outputs.noisy(random, noise))

    def numbers(self) -> int:
        """How many numbers are not 0, as many as take noise."""
        affine = [each for layer in self.layers for each in (layer.drive, layer.relu, layer.left, layer.right)]
        arrays = [part for each in (*affine, self.outputs) for part in (each.w, each.b)]
        return sum(int(np.count_nonzero(each)) for each in (*arrays, *(layer.carry for layer in self.layers)))

    def run(self, x: Float[np.ndarray, "batch time d"]) -> tuple[np.ndarray, np.ndarray]:
        """Outputs (batch, time, outputs), and every atom, (batch, time, atoms)."""
        atoms = np.zeros((*x.shape[:2], self.atoms))
        atoms[..., : self.width] = x
        for layer in self.layers:
            driven = layer.drive(atoms)
            state = np.zeros((len(x), len(layer.states)))
            for t in range(x.shape[1]):
                state = state @ layer.carry.T + driven[:, t]
                atoms[:, t, layer.states] = state
            layer.units(atoms)
        return self.outputs(atoms), atoms

    def run_beside(self, clean: Float[np.ndarray, "batch time atoms"]) -> Float[np.ndarray, "batch time outputs"]:
        """Outputs where every state begins each token as it does without noise, so that no error is carried on.

        **Arguments:** clean: every atom of the run without noise.
        """
        atoms = np.zeros_like(clean)
        atoms[..., : self.width] = clean[..., : self.width]
        for layer in self.layers:
            before = np.zeros_like(clean[..., layer.states])
            before[:, 1:] = clean[:, :-1][..., layer.states]
            atoms[..., layer.states] = before @ layer.carry.T + layer.drive(atoms)
            layer.units(atoms)
        return self.outputs(atoms)
