"""Generation: a prompt read in parallel, then one token after the other in constant memory."""

from dualform.generation.bounding import bounded, read_prompt
from dualform.generation.calls import text_keys
from dualform.generation.decoding import for_decoding
from dualform.generation.fingerprints import Fingerprint, fingerprint
from dualform.generation.growth import state_for
from dualform.generation.kinds import token_kinds
from dualform.generation.multi_state import MultiState, MultiStateAttention
from dualform.generation.pieces import written
from dualform.generation.policy_table import Policy, Seen, policies, policy, register
from dualform.generation.prefixes import PrefixStore
from dualform.generation.sampling import choose_token
from dualform.generation.session import Session
from dualform.generation.snapshot import Snapshot, Written
from dualform.generation.state_file import load_state, save_state
from dualform.generation.surprise import Perplexity, passages_of, perplexity
from dualform.generation.surviving import KindKept, Survivors, by_kind, survivors
from dualform.generation.writing import generate, generate_batch, stream

__all__ = [
    "Fingerprint",
    "KindKept",
    "MultiState",
    "MultiStateAttention",
    "Perplexity",
    "Policy",
    "PrefixStore",
    "Seen",
    "Session",
    "Snapshot",
    "Survivors",
    "Written",
    "bounded",
    "by_kind",
    "choose_token",
    "fingerprint",
    "for_decoding",
    "generate",
    "generate_batch",
    "load_state",
    "passages_of",
    "perplexity",
    "policies",
    "policy",
    "read_prompt",
    "register",
    "save_state",
    "state_for",
    "stream",
    "survivors",
    "text_keys",
    "token_kinds",
    "written",
]
