"""Tokenizers as they are published: what they store beside tokens, how texts begin and end, and tokens that say nothing."""

import json
from typing import Any

import numpy as np
import pytest

from dualform.checkpoints.tokens import (
    ByteTokens,
    CharacterTokens,
    PublishedTokens,
    beginning,
    encode_within,
    shown,
    text_of,
)
from dualform.errors import FileError, InputError
from dualform.generation import token_kinds, written
from tests.fuzz.make_corpus import LETTERS, tokenizer

tokenizers = pytest.importorskip("tokenizers", reason="the optional package tokenizers is not installed")

EURO, FACE = "\u20ac".encode(), "\U0001f600".encode()


def byte_ids(data: bytes) -> list[int]:
    """The tokens of the SentencePiece tokenizer that stand for bytes."""
    return [3 + byte for byte in data]


def joined(tokens: Any, ids: list[int], **options: Any) -> str:
    return "".join(written(tokens, iter(ids), max(len(ids), 1), **options))


@pytest.fixture(scope="module")
def of_bytes() -> PublishedTokens:
    """Pairs of bytes, with a token before a text, and lengths to cut and fill texts to."""
    return PublishedTokens(tokenizer("bytes"))


@pytest.fixture(scope="module")
def of_pieces() -> PublishedTokens:
    """SentencePiece: a space before the text that the decoder strips, bytes for what is unknown, <s> and </s> around a text."""
    return PublishedTokens(tokenizer("sentencepiece"))


def test_stored_lengths_neither_cut_nor_fill(of_bytes):
    """Truncation to 8 and padding to 8 are of training: 40 characters are 40 tokens and one is one; merges are never dropped."""
    assert len(of_bytes.encode_within("c" * 40)) == 40 and len(of_bytes.encode_within("c")) == 1
    made = tokenizer("bytes")
    made.model.dropout = 1.0
    ids = [LETTERS.index("ab")] * 3
    assert PublishedTokens.parsed(made.to_str(), "a").encode_within("ababab").tolist() == ids
    assert PublishedTokens(made).encode_within("ababab").tolist() == ids
    assert made.model.dropout == 1.0 and made.truncation and made.padding  # the caller's own is as it was


def test_an_end_of_a_word_is_a_space_where_another_follows():
    """A decoder of GPT's first kind says "</w>" as a space, but at the end of a text: what is written is the whole text."""
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE({"a</w>": 0, "b</w>": 1, "a": 2, "b": 3}, [], end_of_word_suffix="</w>")
    )
    made.decoder = tokenizers.decoders.BPEDecoder(suffix="</w>")
    tokens, draw = PublishedTokens(made), np.random.default_rng(0)
    assert joined(tokens, [0, 1, 2, 1, 3, 0]).strip() == "a b ab ba"
    for _ in range(20):
        ids = draw.integers(0, 4, 9).tolist()
        assert joined(tokens, ids) == text_of(tokens, ids)


def test_a_text_begins_as_it_should_and_does_not_end(of_bytes, of_pieces):
    """What stands before a text is there once, also of no text; what a template puts behind one is left out: it goes on."""
    begin = LETTERS.index("<|begin|>")
    assert of_bytes.beginning == (begin,) and of_bytes.encode("ab").tolist() == [begin, LETTERS.index("ab")]
    assert of_bytes.encode("").tolist() == [begin] and of_bytes.encode_within("").tolist() == []
    assert of_pieces.beginning == (1,) and 2 not in of_pieces.encode("a b")
    assert of_pieces.encode("a").tolist() == [1, *of_pieces.encode_within("a")]
    assert beginning(ByteTokens()) == beginning(None) == beginning(CharacterTokens("a")) == ()
    made = tokenizer("sentencepiece")
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> <unk> $A", special_tokens=[("<s>", 1), ("<unk>", 0)]
    )
    assert PublishedTokens(made).beginning == (1, 0)
    made.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    assert PublishedTokens(made).beginning == () and PublishedTokens(made).encode("a").tolist() == [262]


def test_the_pieces_of_a_document_have_no_marks_within(of_pieces):
    """A memory task's context begins with <s>; no question, answer or mark between them has <s> or </s>."""
    from dualform.experiments.memory import PLAIN, script
    from dualform.tasks.memory import Example, Question

    example = Example("a b", (Question("a a", "b", ("a",), " a", "contains"),) * 2)
    found = script(example, of_pieces, PLAIN)
    assert found.context[0] == 1 and 2 not in found.context
    within = [*found.asks, *found.answers, found.behind, found.before]
    assert not {1, 2} & {token for piece in within for token in piece}


def test_spaces_that_a_decoder_strips_are_kept_within_a_text(of_pieces):
    """Token by token and joined a text is what it was; what goes on from a prompt keeps its first space."""
    ids = of_pieces.encode_within("a a b").tolist()
    assert of_pieces.decode(ids) == ["a", " a", " ", "b"] and of_pieces.text(ids) == "a a b"
    assert joined(of_pieces, ids) == text_of(of_pieces, ids) == " a a b"
    assert token_kinds(of_pieces.decode([262, 262, 262]))[1:] == ("function word", "function word")
    assert of_pieces.decode([]) == [] and of_pieces.text([]) == text_of(of_pieces, []) == ""


def test_a_character_that_is_not_whole_takes_no_other_with_it(of_pieces):
    """Of a run of bytes all whole characters stay, and the rest is one replacement character, at once and in pieces."""
    for data, said in (
        (EURO, "\u20ac"),
        (EURO + FACE[:2], "\u20ac\ufffd"),
        (EURO + FACE + EURO[:1], "\u20ac\U0001f600\ufffd"),
        (EURO[:2], "\ufffd"),
        (b"\xff" + EURO + b"\x80", "\ufffd\u20ac\ufffd"),
    ):
        assert text_of(of_pieces, byte_ids(data)) == joined(of_pieces, byte_ids(data)) == said
        assert text_of(of_pieces, [262, *byte_ids(data), 262]) == f" a{said} a"
        assert of_pieces.text([262, *byte_ids(data)]) == f"a{said}"
    assert list(written(of_pieces, iter(byte_ids(EURO + FACE)), 7))[:7] == ["\u20ac", "\U0001f600", ""]
    assert of_pieces.decode(byte_ids(EURO)) == ["<0xE2>", "<0x82>", "<0xAC>"]


@pytest.mark.parametrize("kind", ["pieces", "bytes", "numbers"])
def test_in_pieces_a_text_is_what_it_is_at_once(kind, of_pieces):
    """For texts that are cut within characters, and for bytes that are none, whatever comes behind."""
    tokens = {"pieces": of_pieces, "bytes": ByteTokens(), "numbers": None}[kind]
    shift, drawn = (3 if kind == "pieces" else 0), np.random.default_rng(0)
    for trial in range(60):
        if trial % 2:
            data = drawn.integers(0, 256, 20).tolist()
        else:
            text = "".join(chr(drawn.choice([65, 32, 233, 8364, 128512])) for _ in range(8)).encode()
            data = list(text[: int(drawn.integers(1, 20))])
        ids = [shift + each for each in data]
        assert joined(tokens, ids) == text_of(tokens, ids)


class Counted:
    """A tokenizer that counts the tokens which it is asked to say."""

    def __init__(self, tokenizer: Any):
        self.tokenizer, self.said = tokenizer, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def decode(self, ids: Any, **options: Any) -> str:
        self.said += len(ids)
        return self.tokenizer.decode(ids, **options)


@pytest.mark.parametrize("case", ["words", "half characters", "no characters", "held back"])
def test_work_is_linear_in_length(case):
    """For each token of a text a bounded number of tokens is decoded, at any length, whatever it says."""
    counted = Counted(tokenizer("sentencepiece"))
    tokens, stop = PublishedTokens(counted), ("x" * 50,) if case == "held back" else ()
    ids = {"half characters": byte_ids(EURO + FACE), "no characters": byte_ids(b"\xff\xc3")}.get(case, [262, 260, 261])
    joined(tokens, ids)

    def work(length: int) -> tuple[int, int]:
        counted.said = 0
        joined(tokens, (ids * length)[:length], stop=stop)
        growing, counted.said = counted.said, 0
        tokens.decode((ids * length)[:length])
        return growing, counted.said

    few, many = work(100), work(3_000)
    assert 3_000 <= many[0] <= 1.2 * 30 * few[0] and many[1] <= 1.2 * 30 * max(few[1], 1)


def test_numbers_without_tokens(of_bytes):
    """A hole is the replacement character and never 'None'; the largest number is what counts; padded rows say nothing."""
    vocabulary = {"[UNK]": 0, "cat": 1, "dog": 6, "owl": 9}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokens = PublishedTokens(made)
    assert tokens.size == 10 and tokens.decode(tokens.encode("cat dog owl")) == ["cat", "dog", "owl"]
    assert tokens.decode([3]) == ["\ufffd"] and tokens.text([1, 3, 6]) == "cat dog"
    with pytest.raises(InputError, match="token 10 is not in this vocabulary, which goes from 0 to 9"):
        tokens.decode([10])
    assert shown(tokens, [1, 11, 9]) == ["cat", "\ufffd", "owl"] and joined(tokens, [1, 11, 9]) == " cat owl"
    assert shown(ByteTokens(), [65, 300]) == ["A", "\ufffd"] and joined(ByteTokens(), [65, 300, 66]) == "A\ufffdB"
    assert joined(CharacterTokens("ab"), [0, 7, 1]) == "a\ufffdb"


def test_stops_are_found_across_pieces(of_pieces):
    """A text to stop at ends the text wherever tokens cut it, also in what is left at the end."""
    ids = of_pieces.encode_within("a ab a").tolist()
    assert joined(of_pieces, ids, stop=("ab",)) == " a " and joined(of_pieces, ids, stop=("b a", "zz")) == " a a"
    assert joined(of_pieces, [262, *byte_ids(EURO[:1])], stop=("\ufffd",)) == " a"


def test_texts_that_cannot_be_read(of_bytes):
    """Half a character, as an argument that is no UTF-8 has, is said by every kind of tokens; so is a word without a token."""
    for tokens in (of_bytes, ByteTokens(), CharacterTokens("caf")):
        for encode in (tokens.encode, lambda text, tokens=tokens: encode_within(tokens, text)):
            with pytest.raises(
                InputError, match=r"the text has '\\udce9', which is no character: it is no text in UTF-8"
            ):
                encode("caf\udce9")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="[UNK]"))
    with pytest.raises(InputError, match="the model's tokenizer cannot read this text .*UNK"):
        PublishedTokens(made).encode("b")
    with pytest.raises(InputError, match="which is no character"):
        list(written(of_bytes, iter([0]), 1, ("\udce9",)))


def test_tokenizers_that_do_not_fit_together_are_refused():
    """Merges of or into what is no token, and marks around a text that are not said: the package would panic."""
    said = json.loads(tokenizer("bytes").to_str())
    merges, vocabulary = said["model"]["merges"], said["model"]["vocab"]
    template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<x>", "type_id": 0}}]}
    template |= {"pair": [], "special_tokens": {}}
    for wrong in (
        said | {"model": said["model"] | {"merges": [*merges, ["a", "c"]]}},
        said | {"model": said["model"] | {"merges": [*merges, "a c"]}},
        said | {"model": said["model"] | {"vocab": {k: v for k, v in vocabulary.items() if k != "ab"}}},
        said | {"model": said["model"] | {"continuing_subword_prefix": "##"}},
        said | {"post_processor": template},
        said | {"post_processor": {"type": "Sequence", "processors": [template]}},
    ):
        with pytest.raises(FileError, match=r"a file is not a whole tokenizer.json .*which"):
            PublishedTokens.parsed(json.dumps(wrong), "a file")


def test_a_mark_before_the_file_is_no_damage(tmp_path):
    """A tokenizer.json with a byte-order mark is read."""
    (tmp_path / "tokenizer.json").write_text(tokenizer("bytes").to_str(), encoding="utf-8-sig")
    assert PublishedTokens.read(tmp_path / "tokenizer.json").size == len(LETTERS)
