"""What a score is, in one word: what callers may compare it with, and where it begins and ends."""

from enum import StrEnum


class ScoreScale(StrEnum):
    """The scale of the scores that a model answers with where a request asks for no other."""

    LOGIT = "logit"
    """Any number: the head's or the answer token's own; its logistic function is a probability."""
    PROBABILITY = "probability"
    """0 to 1: the logistic function of a logit, as the model was trained or calibrated."""
    COSINE = "cosine"
    """-1 to 1: between the query's vector and the document's."""
    DOT_PRODUCT = "dot-product"
    """Any number: of the query's vector and the document's, whose lengths count."""
    MAX_SIM = "max-sim"
    """Late interaction: each of the query's tokens with its nearest of the document, summed or as a mean."""
    UNIT = "unit"
    """0 to 1, and no probability: a similarity that was brought there."""

    @property
    def as_sigmoid(self) -> "ScoreScale":
        """Return what `activation: sigmoid` makes of it."""
        return ScoreScale.PROBABILITY if self in {self.LOGIT, self.PROBABILITY} else ScoreScale.UNIT
