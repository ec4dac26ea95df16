"""What hypothesis draws: seeds, and a few fixed lengths, so that few programs are compiled."""

import hypothesis.strategies as st
import numpy as np

from tests.laws.laws import TIME

seeds = st.integers(0, 2**20)
flags = st.lists(st.booleans(), min_size=TIME, max_size=TIME).map(lambda values: np.array(values))
