"""Programs that hypothesis draws: any graph of the vocabulary, with states that feed each other."""

from fractions import Fraction

from hypothesis import strategies as st

from dualform.programs.values import Concat, Constant, Input, Linear, Product, Register, ReLU, Value, concat

FACTORS = st.sampled_from([Fraction(n, d) for n in range(-3, 4) for d in (1, 2)])
CARRIED = st.sampled_from([Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2)])
TOKENS = st.integers(-3, 3)


@st.composite
def programs(draw, products: bool = True, most: int = 12) -> Value:
    """The output of a program of at most so many nodes beside its input; widths from 1 to 3.

    States are carried with factors that do not let them grow, so that float64 says something of long inputs, too.
    """
    values: list[Value] = [Input(draw(st.integers(1, 2)))]
    registers: list[Register] = []
    kinds = ["linear", "relu", "register", "concat", "slice", "constant", *(["product"] if products else [])]
    for _ in range(draw(st.integers(1, most))):
        kind, x = draw(st.sampled_from(kinds)), draw(st.sampled_from(values))
        if kind == "linear":
            rows = draw(st.integers(1, 3))
            values.append(Linear(x, draw(_matrix(rows, x.width)), [draw(FACTORS) for _ in range(rows)]))
        elif kind == "relu":
            values.append(ReLU(x))
        elif kind == "product":
            same = [value for value in values if value.width == x.width]
            values.append(Product(x, draw(st.sampled_from(same))))
        elif kind == "concat":
            if x.width < 3:
                values.append(Concat([x, draw(st.sampled_from([v for v in values if v.width == 1] or [x[0]]))]))
        elif kind == "slice":
            values.append(x[draw(st.integers(0, x.width - 1))])
        elif kind == "constant":
            values.append(Constant([draw(FACTORS)]))
        else:
            width = draw(st.integers(1, 2))
            register = Register(width, [draw(FACTORS) for _ in range(width)])
            carried = Linear(register, draw(_carried(width)))
            if registers and draw(st.booleans()):  # another one's past, which makes them one block
                other = draw(st.sampled_from(registers))
                carried = carried + Linear(other, draw(_matrix(width, other.width)))
            values.append(register.becomes(carried + Linear(x, draw(_matrix(width, x.width)))))
            registers.append(register)
            if draw(st.booleans()):
                values.append(register)
    return concat(values[0][0] * 0, *draw(st.lists(st.sampled_from(values), min_size=1, max_size=3)))


def _matrix(rows: int, columns: int):
    row = st.lists(FACTORS, min_size=columns, max_size=columns)
    return st.lists(row, min_size=rows, max_size=rows)


@st.composite
def _carried(draw, width: int):
    """A matrix whose rows add up to at most 1 in size."""
    found = []
    for _ in range(width):
        row = draw(st.lists(CARRIED, min_size=width, max_size=width))
        size = sum(abs(each) for each in row)
        found.append([each / max(1, size) for each in row])
    return found
