"""Backward through backward: penalties, forces, derivatives of derivatives, learning to learn."""

import warnings
from functools import partial
from itertools import pairwise

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

CUDA = {"device": "cuda"}


def stepped(model, loss, steps=2):
    """Adam on what `loss` makes of the model."""
    model = model.cuda()
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(steps):
        loss(model).backward()
        optimizer.step()
        optimizer.zero_grad()


def smooth(widths, activation=nn.Tanh):
    layers = []
    for inner, outer in pairwise(widths):
        layers += [nn.Linear(inner, outer), activation()]
    return nn.Sequential(*layers[:-1])


class Potential(nn.Module):
    """Energy of atoms from their distances, by messages along pairs."""

    def __init__(self, width=128, layers=3):
        super().__init__()
        self.atoms = nn.Embedding(20, width)
        self.filters = nn.ModuleList(smooth((16, width, width), nn.SiLU) for _ in range(layers))
        self.updates = nn.ModuleList(smooth((width, width, width), nn.SiLU) for _ in range(layers))
        self.energy = smooth((width, width, 1), nn.SiLU)
        self.register_buffer("centres", torch.linspace(0, 5, 16))

    def forward(self, kinds, places, pairs):
        apart = (places[pairs[0]] - places[pairs[1]]).square().sum(-1).add(1e-6).sqrt()
        basis = torch.exp(-((apart[:, None] - self.centres) ** 2))
        state = self.atoms(kinds)
        for mix, update in zip(self.filters, self.updates, strict=True):
            messages = state[pairs[1]] * mix(basis)
            state = state + update(torch.zeros_like(state).index_add(0, pairs[0], messages))
        return self.energy(state).sum()


def forces(model):
    """Energy and forces held against others, as force fields are trained."""
    places = torch.randn(700, 3, requires_grad=True, **CUDA)
    kinds, pairs = torch.randint(20, (700,), **CUDA), torch.randint(700, (2, 9000), **CUDA)
    energy = model(kinds, places, pairs)
    (slope,) = torch.autograd.grad(energy, places, create_graph=True)
    return energy.square() + functional.mse_loss(-slope, torch.randn_like(places))


def equation(model, points=3000):
    """The heat equation: first and second derivatives of a network by what it is given."""
    x = torch.rand(points, 1, requires_grad=True, **CUDA)
    t = torch.rand(points, 1, requires_grad=True, **CUDA)
    u = model(torch.cat((x, t), dim=1))
    by_x, by_t = torch.autograd.grad(u.sum(), (x, t), create_graph=True)
    (by_xx,) = torch.autograd.grad(by_x.sum(), x, create_graph=True)
    return (by_t - 0.1 * by_xx).square().mean() + u.square().mean()


def adapted(model, inner_steps=3):
    """MAML: a loss after some steps, by what was before them."""
    weights = dict(model.named_parameters())
    x, y = torch.randn(64, 256, **CUDA), torch.randn(64, 10, **CUDA)
    for _ in range(inner_steps):
        loss = functional.mse_loss(functional_call(model, weights, (x,)), y)
        slopes = torch.autograd.grad(loss, tuple(weights.values()), create_graph=True)
        pairs = zip(weights.items(), slopes, strict=True)
        weights = {name: weight - 0.1 * slope for (name, weight), slope in pairs}
    return functional.mse_loss(functional_call(model, weights, (x,)), y)


def along_curvature(model):
    """A product with the Hessian."""
    x, y = torch.randn(200, 256, **CUDA), torch.randint(10, (200,), **CUDA)
    weights = tuple(model.parameters())
    slopes = torch.autograd.grad(functional.cross_entropy(model(x), y), weights, create_graph=True)
    return sum((slope * torch.randn_like(slope)).sum() for slope in slopes)


def flat(model):
    """The norm of the gradients is part of the loss; they came by `backward`."""
    x, y = torch.randn(200, 256, **CUDA), torch.randint(10, (200,), **CUDA)
    loss = functional.cross_entropy(model(x), y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own of references in a circle
        loss.backward(create_graph=True)
    slopes = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    return loss + sum(slope.square().sum() for slope in slopes)


def recomputed(model):
    """A penalty on a network that keeps nothing between its halves."""
    x = torch.randn(300, 256, requires_grad=True, **CUDA)
    half = len(model) // 2
    middle = checkpoint(model[:half], x, use_reentrant=False)
    scores = checkpoint(model[half:], middle, use_reentrant=False)
    (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return scores.mean() + slope.norm(dim=1).square().mean()


def under_autocast(model):
    """A penalty of which the forward work is in bfloat16."""
    x = torch.randn(300, 256, requires_grad=True, **CUDA)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        scores = model(x)
    (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return scores.mean() + slope.norm(dim=1).square().mean()


def hessian():
    """The Hessian of a small network's loss, by transforms."""
    model = smooth((20, 30, 1)).cuda()
    x = torch.randn(40, 20, **CUDA)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch scripts derivatives, and warns of scripting
        torch.func.hessian(lambda x: model(x).square().sum())(x)


def twice(widths, loss, activation=nn.Tanh):
    return lambda: stepped(smooth(widths, activation), loss)


DOUBLE_BACKWARD_SCRIPTS = {
    "forces of a force field": lambda: stepped(Potential(), forces),
    "derivatives of a network": twice((2, 256, 256, 256, 1), equation),
    "learning to learn": twice((256, 512, 512, 10), adapted),
    "learning to learn, one step": twice((256, 512, 512, 10), partial(adapted, inner_steps=1)),
    "product with the Hessian": twice((256, 512, 512, 10), along_curvature),
    "norm of gradients in the loss": twice((256, 512, 512, 10), flat),
    "gradient penalty, checkpointed": twice((256, 512, 512, 512, 1), recomputed, nn.SiLU),
    "gradient penalty under autocast": twice((256, 512, 512, 1), under_autocast, nn.GELU),
    "Hessian by transforms": hessian,
}
