"""What hypothesis draws: seeds, and a few fixed lengths, so that few programs are compiled."""

import hypothesis.strategies as st
import numpy as np

TIME = 6
seeds = st.integers(0, 2**20)
lengths = st.sampled_from([1, 2, 5, TIME])
flags = st.lists(st.booleans(), min_size=TIME, max_size=TIME).map(lambda values: np.array(values))
