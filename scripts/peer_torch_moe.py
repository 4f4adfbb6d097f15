#!/usr/bin/env python3
"""The peer that strand's speed is measured against: one Mixture-of-Experts training step in plain PyTorch.

It is what a careful user would write: tokens sorted by expert and one GEMM an expert, PyTorch's fused attention and
RMSNorm, cross-entropy in row chunks that never hold all logits, fused AdamW, gradient clipping. The model is that of
configs/bench_tiny.yaml and configs/bench_small.yaml: softmax router with renormalised weights, tied head, load balancing.

Runs timed steps on random tokens and prints one JSON line. `--dtype fp32` computes everything in fp32, `--dtype
autocast` keeps fp32 weights and runs matrix products in bf16 (torch.autocast). `--mode compiled` runs everything but the
products of experts and the cross-entropy, which are written by hand, through torch.compile; it needs a C++ compiler.

`--device cuda` runs on a GPU as a careful user would there: the experts' bf16 products are one call of PyTorch's
grouped_mm, which reads the number of rows on the GPU, and cross-entropy is PyTorch's own, so that torch.compile sees the
whole step.
"""
import argparse
import json
import math
import os
import resource
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

# V vocabulary, D width, L layers, H heads, E experts, K of them a token, W expert width
SHAPES = {
    "tiny": dict(V=8192, D=256, L=6, H=8, E=16, K=2, W=480),
    "small": dict(V=32000, D=512, L=16, H=8, E=16, K=2, W=960),
}
NORM_EPS = 1e-5
LB_WEIGHT = 1e-2
CE_CHUNK_ROWS = 512


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["fp32", "autocast"], default="fp32")
    parser.add_argument("--mode", choices=["eager", "compiled"], default="eager")
    parser.add_argument("--batch", type=int, default=4, help="sequences")
    parser.add_argument("--tokens", type=int, default=512, help="tokens in a sequence")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0, help="0 = PyTorch's choice")
    return parser.parse_args()


class GroupedLinear(torch.autograd.Function):
    """y[r] = W[e] x[r], rows sorted by expert. Written by hand because autograd over slices copies every gradient."""

    @staticmethod
    def forward(ctx, x, weight, rows_per_expert):
        rows = rows_per_expert.tolist()
        y = x.new_empty(x.shape[0], weight.shape[1])
        for xs, ys, w in zip(x.split(rows), y.split(rows), weight):
            if len(xs):
                torch.mm(xs, w.t(), out=ys)
        ctx.save_for_backward(x, weight)
        ctx.rows = rows
        return y

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        dy = dy.contiguous()
        dx, dweight = torch.empty_like(x), torch.empty_like(weight)
        parts = zip(x.split(ctx.rows), dy.split(ctx.rows), dx.split(ctx.rows), weight, dweight)
        for xs, dys, dxs, w, dw in parts:
            if len(xs):
                torch.mm(dys, w, out=dxs)
                torch.mm(dys.t(), xs, out=dw)
            else:
                dw.zero_()
        return dx, dweight, None


class ChunkedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of x headᵀ. Gradients are made beside the values, chunk by chunk: three GEMMs, no logits kept."""

    @staticmethod
    def forward(ctx, x, head, targets):
        total = 0.0
        dx = torch.empty_like(x)
        dhead = torch.zeros(head.shape, dtype=torch.float32)
        for xs, ts, dxs in zip(x.split(CE_CHUNK_ROWS), targets.split(CE_CHUNK_ROWS), dx.split(CE_CHUNK_ROWS)):
            logits = (xs @ head.t()).float()
            lse = torch.logsumexp(logits, dim=1, keepdim=True)
            total = total + (lse - logits.gather(1, ts[:, None])).sum()
            dlogits = logits.sub_(lse).exp_()
            dlogits[torch.arange(len(ts)), ts] -= 1
            dlogits = dlogits.mul_(1 / len(targets)).to(x.dtype)
            torch.mm(dlogits, head, out=dxs)
            if head.dtype == torch.float32:
                dhead.addmm_(dlogits.t(), xs)
            else:
                dhead += dlogits.t() @ xs
        ctx.save_for_backward(dx, dhead.to(head.dtype))
        return total / len(targets)

    @staticmethod
    def backward(ctx, dloss):
        dx, dhead = ctx.saved_tensors
        return dx * dloss, dhead * dloss, None


# torch.compile cannot look into functions whose shapes depend on data; it compiles what is around them.
grouped_linear = torch.compiler.disable(GroupedLinear.apply)
chunked_cross_entropy = torch.compiler.disable(ChunkedCrossEntropy.apply)


def grouped_mm(x, weight, rows_per_expert):
    """The same in one call, for bf16 on a GPU."""
    ends = torch.cumsum(rows_per_expert, 0).to(torch.int32)
    return F.grouped_mm(x, weight.transpose(-2, -1), offs=ends)


def normal(*shape, std=0.02):
    return nn.Parameter(torch.randn(*shape) * std)


class Layer(nn.Module):
    def __init__(self, shape, compute):
        super().__init__()
        self.shape, self.compute = shape, compute
        d, e, w = shape["D"], shape["E"], shape["W"]
        std_out = 0.02 / math.sqrt(2 * shape["L"])
        self.attn_norm, self.ffn_norm = nn.Parameter(torch.ones(d)), nn.Parameter(torch.ones(d))
        self.qkv, self.attn_out = normal(3 * d, d), normal(d, d, std=std_out)
        self.router = normal(e, d)
        self.gate_up, self.down = normal(e, 2 * w, d), normal(e, d, w, std=std_out)

    def attention(self, x, rope, batch):
        d, heads = self.shape["D"], self.shape["H"]
        h = F.rms_norm(x, (d,), self.attn_norm, NORM_EPS).to(self.compute)
        qkv = (h @ self.qkv.to(self.compute).t()).view(batch, -1, 3 * heads, d // heads).transpose(1, 2)
        qk, v = qkv[:, : 2 * heads], qkv[:, 2 * heads :]
        first, second = qk.chunk(2, dim=-1)
        qk = (qk * rope[0] + torch.cat((-second, first), dim=-1) * rope[1]).to(self.compute)
        out = F.scaled_dot_product_attention(qk[:, :heads], qk[:, heads:], v, is_causal=True)
        return out.transpose(1, 2).reshape(-1, d) @ self.attn_out.to(self.compute).t()

    def experts(self, x):
        d, e, k, w = (self.shape[letter] for letter in "DEKW")
        tokens = x.shape[0]
        h = F.rms_norm(x, (d,), self.ffn_norm, NORM_EPS)
        p = torch.softmax(h.float() @ self.router.t().float(), dim=-1)
        gates, chosen = p.topk(k, dim=-1)
        gates = gates / gates.sum(dim=-1, keepdim=True)
        expert_of_slot = chosen.reshape(-1)
        slot_of_row = torch.argsort(expert_of_slot, stable=True)
        row_of_slot = torch.empty_like(slot_of_row).scatter_(0, slot_of_row, torch.arange(tokens * k, device=x.device))
        rows = torch.zeros(e, dtype=torch.int64, device=x.device).scatter_add_(0, expert_of_slot, torch.ones_like(expert_of_slot))
        product = grouped_mm if x.is_cuda and self.compute == torch.bfloat16 else grouped_linear
        gate_up = product(h[slot_of_row // k].to(self.compute), self.gate_up.to(self.compute), rows)
        z = F.silu(gate_up[:, :w]) * gate_up[:, w:]
        y = product(z, self.down.to(self.compute), rows)[row_of_slot].view(tokens, k, d)
        load_balance = e / (k * tokens) * (rows * p.mean(dim=0)).sum()
        return (y * gates[..., None].to(y.dtype)).sum(dim=1), load_balance

    def forward(self, x, rope, batch):
        x = x + self.attention(x, rope, batch)
        y, load_balance = self.experts(x)
        return x + y, load_balance


class Model(nn.Module):
    def __init__(self, shape, compute, tokens):
        super().__init__()
        self.shape, self.compute = shape, compute
        self.embed = normal(shape["V"], shape["D"])
        self.layers = nn.ModuleList(Layer(shape, compute) for _ in range(shape["L"]))
        self.norm = nn.Parameter(torch.ones(shape["D"]))
        head_dim = shape["D"] // shape["H"]
        angle = torch.arange(tokens)[:, None] * 10000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
        angle = torch.cat((angle, angle), dim=-1)
        self.rope = (angle.cos(), angle.sin())

    def forward(self, inputs, targets):
        x = F.embedding(inputs, self.embed).view(-1, self.shape["D"])
        auxiliary = 0.0
        for layer in self.layers:
            x, load_balance = layer(x, self.rope, inputs.shape[0])
            auxiliary = auxiliary + LB_WEIGHT * load_balance
        x = F.rms_norm(x, (self.shape["D"],), self.norm, NORM_EPS).to(self.compute)
        head = self.embed.to(self.compute)
        if x.is_cuda:
            return F.cross_entropy((x @ head.t()).float(), targets.reshape(-1)) + auxiliary
        return chunked_cross_entropy(x, head, targets.reshape(-1)) + auxiliary


def make_optimizer(model):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    norms = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.999), fused=True)


def main():
    args = arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    torch.set_default_device(args.device)
    shape = SHAPES[args.shape]
    autocast = args.dtype == "autocast"
    model = Model(shape, torch.bfloat16 if autocast else torch.float32, args.tokens)
    optimizer = make_optimizer(model)
    if os.environ.get("ATEN_CPU_CAPABILITY") == "avx2":  # torch.compile generates AVX-512 otherwise
        import torch._inductor.config as inductor

        inductor.cpp.simdlen = 256
    run_model = torch.compile(model) if args.mode == "compiled" else model

    def timed_step():
        inputs, targets = torch.randint(shape["V"], (2, args.batch, args.tokens))
        begin = time.perf_counter()
        with torch.autocast(args.device, torch.bfloat16, enabled=autocast):
            loss = run_model(inputs, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss = loss.item()
        seconds = time.perf_counter() - begin
        assert math.isfinite(loss), "the loss is not finite"
        return seconds

    for _ in range(args.warmup):
        timed_step()
    seconds = [timed_step() for _ in range(args.steps)]
    tokens = args.batch * args.tokens
    print(json.dumps({
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "shape": args.shape,
        "dtype": args.dtype,
        "mode": args.mode,
        "parameters": sum(p.numel() for p in model.parameters()),
        "step_seconds": seconds,
        "tokens_per_second": {"best": tokens / min(seconds), "median": tokens / statistics.median(seconds)},
        "peak_resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        **({"peak_device_bytes": torch.cuda.max_memory_allocated()} if args.device == "cuda" else {}),
    }))


if __name__ == "__main__":
    main()
