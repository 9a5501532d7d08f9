"""What a tokenizer knows about single tokens: ids, special tokens, the vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, ClassVar

from tokenizers import AddedToken
from tokenizers import Tokenizer as RustTokenizer

from ..errors import OptionError, TokenizerError, did_you_mean
from .rust_backend import guarded

__all__ = ["ROLES", "Vocabulary"]

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
"""The roles of special tokens; the config has a field `<role>_token` for each."""

SENTINELS = ("<extra_id_{}>", "<s_{}>")
"""What tokens that stand for spans are called, by their number."""


class Vocabulary:
    """The part of a tokenizer that looks up tokens; needs a `config` with the special tokens.

    Tokens that the config names and the vocabulary lacks count as absent.
    """

    config: Any
    backend: RustTokenizer
    roles: ClassVar[tuple[str, ...]] = ROLES
    """The roles that this kind of tokenizer has."""
    shared_ids: Mapping[int, int] = MappingProxyType({})
    """For tokens that share the id of another: the id that the backend gives instead, and the one they have."""

    # -- special tokens ---------------------------------------------------------------------------------------------

    def role(self, name: str) -> str | None:
        """The special token of a role ("pad", "bos", ...), or None when the config or the vocabulary lacks it.

        Raises:
            OptionError: When this kind of tokenizer has no such role.
        """
        if name not in self.roles:
            raise OptionError(f"{type(self).__name__} has no role {name!r:.100}.{did_you_mean(name, self.roles)}")
        token = getattr(self.config, f"{name}_token")
        return None if self.token_to_id(token) is None else str(token)

    def role_id(self, name: str) -> int | None:
        """The id of the special token of a role; see `role`."""
        return self.token_to_id(self.role(name))

    @property
    def special_tokens(self) -> list[str]:
        """The special tokens that are in the vocabulary."""
        tokens = [*map(self.role, self.roles), *(self.config.additional_special_tokens or ())]
        return [token for token in dict.fromkeys(tokens) if self.token_to_id(token) is not None and token is not None]

    @property
    def special_ids(self) -> list[int]:
        """Ids of `special_tokens`."""
        return [i for i in map(self.token_to_id, self.special_tokens) if i is not None]

    @property
    def sentinel_ids(self) -> list[int]:
        """Ids of the tokens that stand for spans, as <extra_id_0> (T5) or <s_0> (CPM-2), in their order, if any."""
        for form in SENTINELS:
            found: list[int] = []
            while (token_id := self.token_to_id(form.format(len(found)))) is not None:
                found.append(token_id)
            if found:
                return found
        return []

    # fmt: off
    @property
    def bos_token(self) -> str | None: return self.role("bos")
    @property
    def eos_token(self) -> str | None: return self.role("eos")
    @property
    def unk_token(self) -> str | None: return self.role("unk")
    @property
    def sep_token(self) -> str | None: return self.role("sep")
    @property
    def pad_token(self) -> str | None: return self.role("pad")
    @property
    def cls_token(self) -> str | None: return self.role("cls")
    @property
    def mask_token(self) -> str | None: return self.role("mask")
    @property
    def bos_token_id(self) -> int | None: return self.token_to_id(self.config.bos_token)
    @property
    def eos_token_id(self) -> int | None: return self.token_to_id(self.config.eos_token)
    @property
    def unk_token_id(self) -> int | None: return self.token_to_id(self.config.unk_token)
    @property
    def sep_token_id(self) -> int | None: return self.token_to_id(self.config.sep_token)
    @property
    def pad_token_id(self) -> int | None: return self.token_to_id(self.config.pad_token)
    @property
    def cls_token_id(self) -> int | None: return self.token_to_id(self.config.cls_token)
    @property
    def mask_token_id(self) -> int | None: return self.token_to_id(self.config.mask_token)
    # fmt: on

    # -- tokens and ids ---------------------------------------------------------------------------------------------

    def token_to_id(self, token: str | None) -> int | None:
        """The id of a token, or None when the vocabulary lacks it."""
        if token is None:
            return None
        with guarded(f"the token {token!r} cannot be looked up", "Give a text."):
            token_id = self.backend.token_to_id(token)
        return token_id if token_id is None else self.shared_ids.get(token_id, token_id)

    def id_to_token(self, token_id: int) -> str | None:
        """The token of an id, or None when the vocabulary lacks it."""
        with guarded(f"the id {token_id!r} cannot be looked up", "Give an integer that is not negative."):
            return None if token_id in self.shared_ids else self.backend.id_to_token(int(token_id))

    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> list[int | None]:
        """The id of each token; None where the vocabulary lacks it."""
        return [self.token_to_id(token) for token in ([tokens] if isinstance(tokens, str) else tokens)]

    def convert_ids_to_tokens(self, ids: int | Iterable[int], skip_special_tokens: bool = False) -> list[str | None]:
        """The token of each id; None where the vocabulary lacks it."""
        listed = [ids] if isinstance(ids, int) else [int(i) for i in ids]
        skipped = set(self.special_ids) if skip_special_tokens else set()
        return [self.id_to_token(i) for i in listed if i not in skipped]

    # -- the whole --------------------------------------------------------------------------------------------------

    @property
    def vocab(self) -> dict[str, int]:
        """All tokens and their ids."""
        return self.get_vocab()

    @property
    def vocab_size(self) -> int:
        """Number of tokens without the added ones."""
        return self.get_vocab_size(with_added_tokens=False)

    @property
    def max_token_id(self) -> int:
        """The largest id it gives; -1 when it has none. Ids can have gaps, so the size does not tell it."""
        with guarded("the tokenizer cannot encode", "Check its tokenizer.json."):
            around = self.backend.encode("", "").ids  # special tokens, for which a file may name any id
        return max(*self.get_vocab().values(), *around, -1, -1)

    @property
    def max_type_id(self) -> int:
        """The largest segment type that it gives to the tokens of texts and pairs; 0 when it can encode no "a"."""
        with suppress(TokenizerError), guarded("the tokenizer cannot encode", "Check its tokenizer.json."):
            return max(*self.backend.encode("a").type_ids, *self.backend.encode("a", "a").type_ids, 0, 0)
        return 0

    def __len__(self) -> int:
        return self.get_vocab_size()

    def __bool__(self) -> bool:  # an untrained tokenizer is no less a tokenizer
        return True

    def get_vocab(self, with_added_tokens: bool = True) -> dict[str, int]:
        """All tokens and their ids."""
        vocabulary = self.backend.get_vocab(with_added_tokens=with_added_tokens)
        return {token: self.shared_ids.get(i, i) for token, i in vocabulary.items()} if self.shared_ids else vocabulary

    def get_vocab_size(self, with_added_tokens: bool = True) -> int:
        """Number of tokens."""
        return self.backend.get_vocab_size(with_added_tokens=with_added_tokens)

    def get_added_vocab(self) -> dict[str, int]:
        """The tokens that were added to the model's vocabulary, and their ids."""
        base = self.get_vocab(with_added_tokens=False)
        return {token: i for token, i in self.get_vocab().items() if token not in base}

    def add_tokens(self, tokens: str | AddedToken | list[str | AddedToken]) -> int:
        """Adds tokens that are never split; returns how many are new. Not while other threads tokenize."""
        return self.backend.add_tokens(tokens if isinstance(tokens, list) else [tokens])

    def add_special_tokens(self, special_tokens: str | AddedToken | list[str | AddedToken]) -> int:
        """Adds tokens that are never split and that `decode` leaves out; returns how many are new."""
        listed = special_tokens if isinstance(special_tokens, list) else [special_tokens]
        count = self.backend.add_special_tokens(listed)
        known = [*map(self.role, self.roles), *(self.config.additional_special_tokens or [])]
        new = [token for token in map(str, listed) if token not in known]
        if new:
            self.config.additional_special_tokens = [*(self.config.additional_special_tokens or []), *new]
        return count

    def num_special_tokens_to_add(self, is_pair: bool = False) -> int:
        """How many tokens the post-processor adds to a text, or to a pair."""
        return self.backend.num_special_tokens_to_add(is_pair)
