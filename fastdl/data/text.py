"""Words and their numbers."""

import collections
import json
import re

import numpy as np

WORD = re.compile(r"\w+(?:'\w+)?")
PADDING, UNKNOWN = 0, 1


def words(text):
    """The words of a text, in lower case, without punctuation."""
    return WORD.findall(text.lower())


class Vocabulary:
    """The words of a corpus, numbered by how often they occur. 0 stands for padding, 1 for a word that is not in it.

    tokens   list of words by number; the first two are "" and "[UNK]", as in Keras' TextVectorization
    """

    def __init__(self, tokens):
        self.tokens = list(tokens)
        if self.tokens[:2] != ["", "[UNK]"]:
            raise ValueError(f"the first two tokens of a vocabulary are '' and '[UNK]', not {self.tokens[:2]}")
        self.numbers = {token: number for number, token in enumerate(self.tokens)}

    @classmethod
    def build(cls, texts, max_tokens=10000):
        """The vocabulary of the texts' most frequent words, at most max_tokens with the first two; ties in order of the alphabet."""
        counts = collections.Counter(word for text in texts for word in words(text))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(["", "[UNK]", *ranked[:max_tokens - 2]])

    def __len__(self):
        return len(self.tokens)

    def __repr__(self):
        return f"Vocabulary of {len(self)} tokens"

    def encode(self, texts, length):
        """Numbers of the first `length` words of each text, then 0s.

        texts     n of them
        returns   (n, length) int32
        """
        out = np.zeros((len(texts), length), np.int32)
        for row, text in zip(out, texts):
            found = [self.numbers.get(word, UNKNOWN) for word in words(text)[:length]]
            row[:len(found)] = found
        return out

    def decode(self, numbers):
        """The text of one row of encode, without its padding."""
        return " ".join(self.tokens[n] for n in numbers if n != PADDING)

    def save(self, path):
        """Write the list of words as JSON."""
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.tokens, file, ensure_ascii=False, indent=0)

    @classmethod
    def load(cls, path):
        """Read what save wrote."""
        with open(path, encoding="utf-8") as file:
            return cls(json.load(file))
