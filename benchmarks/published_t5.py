"""t5-small as transformers 4.49 of March 2025 had it, whose attention was written out (case B16).

Later versions have another attention, and what a batch adds is less by 2 %.
"""

import math

import torch
from torch import nn
from torch.nn.functional import cross_entropy, dropout, embedding, linear, softmax

CLASSES, WIDTH, HIDDEN, DEPTH, HEADS, HEAD = 32_128, 512, 2048, 6, 8, 64
LOWEST = torch.finfo(torch.float32).min


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        variance = x.to(torch.float32).pow(2).mean(-1, keepdim=True)
        x = x * torch.rsqrt(variance + 1e-6)
        return self.weight * x


def buckets(distance, *, both_ways):
    """Of each distance: half of them are near ones, the others grow with the distance."""
    found, count = 0, 32
    if both_ways:
        count //= 2
        found += (distance > 0).to(torch.long) * count
        distance = torch.abs(distance)
    else:
        distance = -torch.min(distance, torch.zeros_like(distance))
    near = count // 2
    is_near = distance < near
    far = near + (torch.log(distance.float() / near) / math.log(128 / near) * near).to(torch.long)
    far = torch.min(far, torch.full_like(far, count - 1))
    found += torch.where(is_near, distance, far)
    return found


class Attention(nn.Module):
    """Its keys and values are in a cache, although it is trained, as long as what was returned."""

    def __init__(self, *, has_bias=False, decodes=False):
        super().__init__()
        self.decodes = decodes
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.relative = nn.Embedding(32, HEADS) if has_bias else None

    def heads_of(self, x):
        return x.view(len(x), -1, HEADS, HEAD).transpose(1, 2)

    def bias(self, scores):
        length = scores.shape[-1]
        if self.relative is None:
            shape = (1, HEADS, length, length)
            return torch.zeros(shape, device=scores.device, dtype=scores.dtype)
        context = torch.arange(length, device=scores.device)[:, None]
        memory = torch.arange(length, device=scores.device)[None, :]
        distance = memory - context
        values = self.relative(buckets(distance, both_ways=not self.decodes))
        return values.permute([2, 0, 1]).unsqueeze(0)

    def forward(self, x, source, mask, bias, cache):
        queries = self.heads_of(self.q(x))
        keys, values = self.k(source), self.v(source)
        keys, values = self.heads_of(keys), self.heads_of(values)
        cache.append((keys, values))
        scores = torch.matmul(queries, keys.transpose(3, 2))
        if bias is None:
            bias = self.bias(scores)
            bias = bias + mask
        scores += bias
        weights = softmax(scores.float(), dim=-1).type_as(scores)
        weights = dropout(weights, p=0.1)
        output = torch.matmul(weights, values)
        output = output.transpose(1, 2).contiguous()
        return self.o(output.view(len(x), -1, WIDTH)), bias


class FeedForward(nn.Module):
    """Under autocast it casts to single precision, and the product back to half."""

    def __init__(self):
        super().__init__()
        self.wi, self.wo = (
            nn.Linear(WIDTH, HIDDEN, bias=False),
            nn.Linear(HIDDEN, WIDTH, bias=False),
        )
        self.dropout, self.act = nn.Dropout(0.1), nn.ReLU()

    def forward(self, x):
        x = self.wi(x)
        x = self.act(x)
        x = self.dropout(x)
        x = x.to(self.wo.weight.dtype)
        return self.wo(x)


class Block(nn.Module):
    def __init__(self, *, first, decodes):
        super().__init__()
        self.attention, self.feed_forward = (
            Attention(has_bias=first, decodes=decodes),
            FeedForward(),
        )
        self.across = Attention() if decodes else None
        self.norms = nn.ModuleList(Norm() for _ in range(3 if decodes else 2))
        self.dropout = nn.Dropout(0.1)

    def forward(self, x, masks, biases, source, cache):
        normed = self.norms[0](x)
        output, biases[0] = self.attention(normed, normed, masks[0], biases[0], cache)
        x = x + self.dropout(output)
        if self.across is not None:
            normed = self.norms[1](x)
            output, biases[1] = self.across(normed, source, masks[1], biases[1], cache)
            x = x + self.dropout(output)
        forwarded = self.norms[-1](x)
        forwarded = self.feed_forward(forwarded)
        return x + self.dropout(forwarded)


class Stack(nn.Module):
    def __init__(self, *, decodes):
        super().__init__()
        self.decodes = decodes
        self.blocks = nn.ModuleList(Block(first=at == 0, decodes=decodes) for at in range(DEPTH))
        self.norm, self.dropout = Norm(), nn.Dropout(0.1)

    def masks(self, x):
        ones = torch.ones(x.shape[:2], device=x.device)
        if not self.decodes:
            mask = ones[:, None, None, :]
            return (1.0 - mask) * LOWEST, None
        mask = causal(ones)
        across = torch.ones(x.shape[:2], device=x.device, dtype=torch.long)
        return mask, (1.0 - across[:, None, None, :].to(torch.float32)) * LOWEST

    def forward(self, x, source=None):
        masks, biases, cache = self.masks(x), [None, None], []
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, masks, biases, source, cache if self.decodes else [])
        return self.dropout(self.norm(x)), cache


def causal(ones):
    length = ones.shape[1]
    mask = torch.full((length, length), LOWEST, device=ones.device)
    mask = torch.triu(mask, diagonal=1)
    places = torch.arange(length, device=ones.device)
    mask *= torch.arange(length, device=ones.device) > places.reshape(-1, 1)
    mask = mask[None, None, :, :].expand(len(ones), 1, -1, -1)
    mask = mask.clone()
    padding = mask + ones[:, None, None, :]
    padding = padding == 0
    mask[:, :, :, :length] = mask[:, :, :, :length].masked_fill(padding, LOWEST)
    return mask


class T5(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Embedding(CLASSES, WIDTH)
        self.encoder, self.decoder = Stack(decodes=False), Stack(decodes=True)

    def forward(self, input_ids, labels):
        source, _ = self.encoder(self.shared(input_ids))
        shifted = labels.new_zeros(labels.shape)
        shifted[..., 1:] = labels[..., :-1].clone()
        shifted.masked_fill_(shifted == -100, 0)
        output, cache = self.decoder(embedding(shifted, self.shared.weight), source)
        output = output * WIDTH**-0.5
        logits = linear(output, self.shared.weight)
        loss = cross_entropy(logits.view(-1, CLASSES), labels.view(-1))
        return loss, logits, cache, source
