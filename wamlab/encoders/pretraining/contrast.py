"""CLIP: frames and the descriptions of their scenes, matched within a batch (Radford et al., 2021, arXiv:2103.00020).

Both towers are those of `transformers.CLIPModel`. A batch has several frames of one scene, so every equal description counts as a match
(as in UniCL, Yang et al., 2022, arXiv:2204.03610). Words are dropped at random: there are few descriptions, and a frame shows part of one.
A description names what happens in its drive, turns among it.
"""

from __future__ import annotations

import math
import re
import zlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wamlab.encoders.clip import SmallClip
from wamlab.encoders.pretraining.data import Batch
from wamlab.encoders.pretraining.objective import Objective
from wamlab.errors import LabelsMissing
from wamlab.types import Scene

#: Words are numbered by a hash, so there is no list of them to keep: 0 is no word, `END` the last token, at which a text is read.
VOCABULARY, END, MAX_TOKENS = 1024, 1, 48
TEXT_DEPTH = 2
WORD_DROPOUT = 0.3
MAX_LOGIT_SCALE = math.log(100)


class Contrast(Objective):
    """See the module's docstring. The tower of texts has the width of the other and is not shipped."""

    summary = "cross-entropy of matching frames and descriptions of scenes (which name turns); the tower of texts is not shipped"
    measure = "retrieved"
    meaning = "share of frames to which the nearest description of the batch is their own scene's"

    def __init__(self, config: SmallClip) -> None:
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

        super().__init__()
        self.backbone, self.preprocess = CLIPVisionModelWithProjection(config.config()), config.preprocess()
        texts = CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=config.width,
            intermediate_size=4 * config.width,
            num_hidden_layers=TEXT_DEPTH,
            num_attention_heads=config.heads,
            max_position_embeddings=MAX_TOKENS,
            projection_dim=config.projection,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=END,
        )
        self.texts = CLIPTextModelWithProjection(texts)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def labels(self, scene: Scene) -> Tensor:
        """(T, MAX_TOKENS): the tokens of the scene's description, the same for all frames."""
        if not scene.description.strip():
            raise LabelsMissing(f"{scene.name} has no description: image-text pretraining needs one of every scene")
        return tokenize(scene.description).float().expand(len(scene), -1)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        tokens = batch.labels.long()
        same = (tokens[:, None] == tokens).all(dim=2)
        if self.training:
            dropped = torch.rand(tokens.shape, generator=generator, device=generator.device) < WORD_DROPOUT
            tokens = tokens.masked_fill(dropped & (tokens != END), 0)
        images = F.normalize(self.backbone(self.preprocess(batch.frames[:, 0])).image_embeds.float(), dim=1)
        texts = F.normalize(self.texts(tokens).text_embeds.float(), dim=1)
        logits = self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp() * images @ texts.T
        targets = same.float() / same.sum(dim=1, keepdim=True)  # symmetric: equal texts are equal both ways
        loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
        retrieved = same.gather(1, logits.argmax(dim=1, keepdim=True)).float().mean()
        return loss, {"retrieved": float(retrieved)}


def tokenize(text: str) -> Tensor:
    """(MAX_TOKENS,) int64: the words, `END`, zeros; a longer text is cut."""
    words = re.findall(r"[\w'-]+", text.lower())[: MAX_TOKENS - 1]
    tokens = [2 + zlib.crc32(word.encode()) % (VOCABULARY - 2) for word in words] + [END]
    return torch.tensor(tokens + [0] * (MAX_TOKENS - len(tokens)))
