"""How well captions say what people said, without Java: clips, dense captions, and the tokenizer.

The scale is that of the field's code: BLEU, METEOR, ROUGE-L, SODA_c, precision and recall from 0 to
1, CIDEr from 0 to 10; papers print them times 100. KNOWN_DIFFERENCES belongs beside every table.
"""

from vidmamba.metrics.captions.clips import (
    ALL_METRICS,
    FIELD_METRICS,
    KNOWN_DIFFERENCES,
    score_captions,
    score_each_caption,
)
from vidmamba.metrics.captions.dense import best_captions, score_dense_captions
from vidmamba.metrics.captions.tokens import tokenize

__all__ = [
    "ALL_METRICS",
    "FIELD_METRICS",
    "KNOWN_DIFFERENCES",
    "best_captions",
    "score_captions",
    "score_dense_captions",
    "score_each_caption",
    "tokenize",
]
