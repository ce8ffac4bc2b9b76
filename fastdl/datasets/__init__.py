"""Standard data sets: found in the folder FASTDL_DATA, then in the cache, else downloaded once and checked."""

from . import ag_news, diabetes, digits, mnist  # noqa: F401
