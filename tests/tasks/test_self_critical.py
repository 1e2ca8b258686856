"""Self-critical training against loops in plain Python, and by what it does to a small decoder."""

import pytest
import torch
from torch import Tensor

from vidmamba.metrics.captions import score_captions
from vidmamba.models.decoder import DecoderConfig, TokenDecoder
from vidmamba.models.token_cider import TokenCider, learn_rarities
from vidmamba.models.tokenizer import TokenizerConfig, train_tokenizer
from vidmamba.tasks.caption_batches import CaptionBatchConfig
from vidmamba.tasks.caption_losses import CaptionLossConfig
from vidmamba.tasks.self_critical import (
    advantages,
    draw_captions,
    gather_references,
    weighted_loss,
)

from .animals import labelled_set, new_task

TRUTH = ["a dog runs", "a dog is running"]
TOKENIZER = train_tokenizer([*TRUTH, "the cat"], TokenizerConfig(words=270, lower=True))
END = TOKENIZER.end


def test_each_event_gets_its_own_sentences_in_their_order() -> None:
    tokens = torch.tensor([[1, END], [2, 2], [3, END], [4, 4], [5, END]])
    found = gather_references(tokens, torch.tensor([1, 0, 1, 1, 2]), end=END)
    none = [END, END]
    assert found.tolist() == [
        [[2, 2], none, none],
        [[1, END], [3, END], [4, 4]],
        [[5, END], none, none],
    ]


def test_an_advantage_is_what_a_captions_score_is_above_the_mean_of_the_others() -> None:
    words = {0: "a dog runs", 1: "the cat", 2: "a dog is running fast"}
    number = {
        word: n for n, word in enumerate(sorted({w for t in words.values() for w in t.split()}))
    }

    def row(text: str) -> list[int]:
        return [*(number[word] for word in text.split()), *[END] * 6][:6]

    texts = [["a dog runs", "the cat runs", "a a dog is"], ["the cat", "is a cat", "fast dog"]]
    references = [[words[0], words[2]], [words[1]]]
    likeness = learn_rarities(
        [[row(t)[: row(t).index(END)] for t in own] for own in references],
        vocabulary=END + 1,
        end=END,
    )
    asked = torch.tensor([[row(text) for text in own] for own in texts])
    known = torch.tensor(
        [[row(t) for t in own] + [[END] * 6] * (2 - len(own)) for own in references]
    )
    found = advantages(asked, known, likeness)
    for k in range(3):  # a pair a time is scored; rarities are those of the two references' videos
        told = {f"v{video}": texts[video][k] for video in range(2)}
        truth = {f"v{video}": references[video] for video in range(2)}
        mean = score_captions(told, truth, metrics=("cider_d",))["cider_d"]
        own = 10 * torch.stack(
            [
                likeness(asked[:1, k : k + 1], known[:1]).sum() / 2,
                likeness(asked[1:, k : k + 1], known[1:]).sum(),
            ]
        )
        assert float(own.mean()) == pytest.approx(mean, rel=1e-4)
        others = [j for j in range(3) if j != k]
        rewards = [
            10 * likeness(asked[v : v + 1], known[v : v + 1]).sum(-1)[0] / len(references[v])
            for v in range(2)
        ]
        expected = [rewards[v][k] - rewards[v][others].mean() for v in range(2)]
        torch.testing.assert_close(found[:, k], torch.stack(expected))


def test_a_decoder_learns_to_write_what_scores_well() -> None:
    torch.manual_seed(0)
    config = DecoderConfig(vocabulary=len(TOKENIZER), width=16, depth=1, heads=2)
    decoder = TokenDecoder(config)
    memory = torch.randn(1, 2, 16)
    rows = [TOKENIZER.encode(text) for text in TRUTH]
    longest = max(len(row) for row in rows) + 1
    references = torch.tensor([[[*row, *[END] * longest][:longest] for row in rows]])
    likeness = TokenCider(vocabulary=len(TOKENIZER), end=END)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=2e-2)

    def drawn() -> Tensor:
        return draw_captions(decoder, memory, TOKENIZER, number=64, most_words=4)

    def reward() -> float:
        return float(torch.stack([likeness(drawn(), references).mean() for _ in range(8)]).mean())

    before = reward()
    for _ in range(100):
        captions = drawn()
        weights = advantages(captions, references, likeness)
        optimizer.zero_grad()
        weighted_loss(decoder, memory, captions, weights, TOKENIZER).backward()
        optimizer.step()
    assert before < 0.01
    assert reward() > 0.1


def test_it_is_learned_from_when_its_time_has_come_and_only_by_what_is_new() -> None:
    data = labelled_set(2)
    loss = CaptionLossConfig(self_critical=2.0, self_critical_from=0.5)
    task = new_task(data, batches=CaptionBatchConfig(jitter=0.0, again=1), loss=loss)
    batch = task.collate(data.train)
    assert not task.draws(0.49)
    assert task.draws(0.5)
    assert not new_task(data).draws(1.0)
    task.batch_loss(batch, done=0.6).backward()
    grown = task.net.decoder.embed.weight.grad
    assert grown is not None
    assert bool(grown.isfinite().all())
    assert task.net.decoder.training
    task.eval()
    task.batch_loss(batch, done=0.6)
    assert not task.net.decoder.training  # what validation says is said without dropout
