"""Linear-chain conditional random fields (Lafferty et al., 2001): labels of which each depends on the one before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .heads import TokenHead


class LinearChainCRF(nn.Module):
    """Scores a row of labels by the scores of its tokens and a learned score for each pair of neighbours.

    A chain has no scores for its start and end. Tokens that a mask leaves out are not there: their neighbours meet.

    Args:
        labels: Number of labels.

    Attributes:
        transitions: The score of label i before label j, [labels, labels].
    """

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.transitions = nn.Parameter(torch.empty(labels, labels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small random transitions."""
        nn.init.uniform_(self.transitions, -0.1, 0.1)

    def loss(self, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """The negative log-likelihood of each chain, [batch] float32; zero for one without tokens.

        Args:
            scores: Of each label for each token, [batch, length, labels].
            labels: The true ones, [batch, length] int64; those of tokens outside the chain do not count.
            mask: Which tokens are in the chain, [batch, length] bool.
        """
        order, mask = _to_the_front(mask)
        scores, labels = scores.float().gather(1, order[..., None].expand_as(scores)), labels.gather(1, order)
        labels = labels.masked_fill(~mask, 0)
        own = scores.gather(2, labels[..., None])[..., 0]
        pairs = self.transitions.float()[labels[:, :-1], labels[:, 1:]]
        _, total = self._forward(scores, mask)
        return total - (own * mask).sum(1) - (pairs * mask[:, 1:]).sum(1)

    @torch.no_grad()
    def decode(self, scores: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The best chain of labels (Viterbi, 1967), and how probable each label is by itself.

        Args:
            scores: Of each label for each token, [batch, length, labels].
            mask: Which tokens are in the chain, [batch, length] bool.

        Returns:
            The labels, [batch, length] int64, and the probabilities of all labels over all chains,
            [batch, length, labels] float32; for tokens outside the chain they say nothing.
        """
        order, mask = _to_the_front(mask)
        back = order.argsort(1)
        scores = scores.float().gather(1, order[..., None].expand_as(scores))
        probabilities = (self._forward(scores, mask)[0] + self._backward(scores, mask)).softmax(-1)
        best = self._viterbi(scores, mask).gather(1, back)
        return best, probabilities.gather(1, back[..., None].expand_as(scores))

    # Sums over chains grow with their length, and float32 has less and less room behind the point for them: what a
    # token's labels have in common is taken out at each step.

    def _forward(self, scores: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """For each token and label, the log of its share of the sum over all chains that end at the token.

        Returns:
            The shares, [batch, length, labels], and the log of the sum over all whole chains, [batch].
        """
        transitions, state = self.transitions.float(), torch.zeros_like(scores[:, 0])
        states, total = [], state[:, 0]
        for step in range(scores.size(1)):
            before = (state[:, :, None] + transitions).logsumexp(1) if step else state
            ahead, common = _shares(before + scores[:, step])
            state = torch.where(mask[:, step, None], ahead, state)
            total = total + common * mask[:, step]
            states.append(state)
        return torch.stack(states, 1), total

    def _backward(self, scores: Tensor, mask: Tensor) -> Tensor:
        """For each token and label, the log of its share of the sum over all chains that go on from there."""
        transitions, states = self.transitions.float(), [torch.zeros_like(scores[:, 0])]
        for step in range(scores.size(1) - 1, 0, -1):
            behind, _ = _shares((transitions + (scores[:, step] + states[-1])[:, None]).logsumexp(2))
            states.append(torch.where(mask[:, step, None], behind, states[-1]))
        return torch.stack(states[::-1], 1)

    def _viterbi(self, scores: Tensor, mask: Tensor) -> Tensor:
        transitions, state, pointers = self.transitions.float(), scores[:, 0], []
        stay = torch.arange(scores.size(2), device=scores.device).expand_as(state)
        for step in range(1, scores.size(1)):
            ahead, pointer = (state[:, :, None] + transitions).max(1)
            state = torch.where(mask[:, step, None], ahead + scores[:, step], state)
            pointers.append(torch.where(mask[:, step, None], pointer, stay))
        best = [state.argmax(1, keepdim=True)]
        for pointer in reversed(pointers):
            best.append(pointer.gather(1, best[-1]))
        return torch.cat(best[::-1], 1)


class CRFHead(TokenHead):
    """One score per label for every token, and transitions between labels.

    Args:
        width: Size of the hidden states.
        labels: Number of labels.
        dropout: Dropout probability before the layer.
        bias: Whether the layer has a bias.
    """

    def __init__(self, width: int, labels: int, *, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__(width, labels, dropout=dropout, bias=bias)
        self.crf = LinearChainCRF(labels)


def _shares(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Logs of sums by label as those of shares, [batch, labels], and the log of the whole sum, [batch]."""
    common = sums.logsumexp(-1)
    return sums - common[:, None], common


def _to_the_front(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The order of tokens in which those of the chain come first, and the mask in that order."""
    order = (~mask).byte().argsort(dim=1, stable=True)
    return order, mask.gather(1, order)
