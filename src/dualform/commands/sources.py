"""What a model reads, as --text and --file say it."""

from pathlib import Path

from dualform.errors import require
from dualform.reading import text_of_file

NOTHING = "what shall {} read? Give --text '...' or --file FILE."


def source_of(
    text: str | None, file: Path | None, as_files: tuple[str, ...], what: str = "a text"
) -> str | Path | None:
    """The text that is given, or that of the file; the file itself where its name ends as one that holds no text.

    **Arguments:** as_files: such endings, as ".npy"; what: the file should be.

    **Returns:** None where neither is given.

    **Raises:** `InputError` where both are; `FileError` where the file cannot be read.
    """
    require(text is None or file is None, "--text and --file are both given; give one of them.")
    if text is not None or file is None:
        return text
    return file if file.suffix.lower() in as_files else text_of_file(file, what)
