"""What earlier versions of torch did in another way, where figures were read with them."""

import torch

aten = torch.ops.aten


class FirstFlash(torch.autograd.Function):
    """Flash attention as torch had it up to 2.1, which copied tensors that are not batch first.

    What it returns is batch first, where that of later versions is laid out as the query.
    """

    @staticmethod
    def forward(ctx, q, k, v, is_causal=False):
        qkv = (q, k, v)
        out, lse, _, _, _, _, seed, offset, _ = aten._scaled_dot_product_flash_attention(
            *batch_first(qkv), 0.0, is_causal
        )
        ctx.is_causal = is_causal
        ctx.save_for_backward(*qkv, out, lse, seed, offset)
        return out

    @staticmethod
    def backward(ctx, gradient):
        *qkv, out, lse, seed, offset = ctx.saved_tensors
        (gradient,), qkv, length = batch_first([gradient]), batch_first(qkv), out.shape[2]
        gradients = aten._scaled_dot_product_flash_attention_backward(
            gradient,
            *qkv,
            out,
            lse,
            None,
            None,
            length,
            length,
            0.0,
            ctx.is_causal,
            seed,
            offset,
        )
        return *gradients, None


def batch_first(tensors):
    return [tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in tensors]


class EarlyAdam(torch.optim.Optimizer):
    """The foreach form up to July 2023, which made two temporaries of each parameter's size."""

    def __init__(self, weights, lr=1e-3):
        super().__init__(weights, {"lr": lr})

    @torch.no_grad()
    def step(self):
        weights = [weight for weight in self.param_groups[0]["params"] if weight.grad is not None]
        gradients = [weight.grad for weight in weights]
        for weight in weights:
            if not self.state[weight]:
                for name in ("exp_avg", "exp_avg_sq"):
                    self.state[weight][name] = torch.zeros_like(weight)
        averages = [self.state[weight]["exp_avg"] for weight in weights]
        squares = [self.state[weight]["exp_avg_sq"] for weight in weights]
        torch._foreach_mul_(averages, 0.9)
        torch._foreach_add_(averages, gradients, alpha=0.1)
        torch._foreach_mul_(squares, 0.999)
        torch._foreach_addcmul_(squares, gradients, gradients, 0.001)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, 0.5)
        denominators = torch._foreach_add(roots, 1e-8)
        torch._foreach_addcdiv_(weights, averages, denominators, -self.param_groups[0]["lr"])
