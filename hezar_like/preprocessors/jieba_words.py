"""Chinese words, found by jieba with its own dictionary.

jieba's module-level functions share one dictionary with every program that adds words to it, write a file into the
folder for temporary files, and talk to the log. The segmenter here is ours alone: equal texts give equal words.
"""

from __future__ import annotations

import warnings
from functools import cache
from threading import Lock
from typing import Any

from ..errors import require

__all__ = ["cut_words"]

_LOADING = Lock()  # the dictionary takes a second; threads that come meanwhile wait for it


def cut_words(text: str, *, new_words: bool = True) -> list[str]:
    """Cuts a text into words; joined without spaces they are the text.

    Args:
        text: Any text.
        new_words: Whether characters that make no word of the dictionary are joined by jieba's hidden Markov model.

    Raises:
        MissingDependency: When jieba is not installed; without it the words would be others.
    """
    with _LOADING:
        segmenter = _segmenter()
    return list(segmenter.cut(text, HMM=new_words))


@cache
def _segmenter() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in its regular expressions, and its use of pkg_resources
        jieba: Any = require("jieba", extra="chinese")
        segmenter = jieba.Tokenizer()
        with segmenter.get_dict_file() as file:
            segmenter.FREQ, segmenter.total = segmenter.gen_pfdict(file)
    segmenter.initialized = True
    return segmenter
