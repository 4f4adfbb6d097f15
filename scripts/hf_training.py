"""Training steps of a transformers model as a reference file of `strand verify`: logits, loss, every gradient, the choices
of experts, and the weights after three steps of AdamW, from autograd through the class of transformers.

A gradient lies in the same places as its weight. So the directory that transformers writes of a model whose weights are
the gradients, imported by strand, has them under strand's names.
"""
import copy
import json
import sys

import torch
import yaml
from hf_models import BACKBONES, IMPORTS, backbone_model, randomize
from parity_bench import ROOT, Failure, check
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(ROOT / "tests/oracle"))
import strand_terms  # noqa: E402, the loss terms of the oracle

SEQUENCES, LENGTH, STEPS = 2, 9, 3
LB_WEIGHT, Z_WEIGHT = 0.05, 0.01
OPTIMIZER = {"lr": 3e-3, "min_lr": 1e-3, "warmup_steps": 2, "total_steps": STEPS, "weight_decay": 0.1, "beta1": 0.9,
             "beta2": 0.99, "adam_eps": 1e-6, "clip_norm": 1.0}
SMALLEST_GAP = 3e-4  # between scores, at the edge of a choice of experts or of groups


class Routing:
    """What the routers of one forward pass said: logits [T, E] and, by descending score + bias, the experts [T, K]."""

    def __init__(self, config):
        self.config, self.logits, self.selected, self.gap = config, [], [], float("inf")

    def hook(self, router, _, output):
        logits, _, chosen = output
        bias = next((b for name, b in router.named_buffers() if name.endswith("bias")), None)
        bias = bias if bias is not None else next(
            (b for name, b in router.named_parameters() if name.endswith("bias")), torch.zeros(logits.shape[1]))
        score = self.config["moe"]["score"]
        choice = (logits.softmax(-1) if score == "softmax" else logits.sigmoid()).detach() + bias.detach().flatten()
        of_chosen = choice.gather(1, chosen)
        self.logits.append(logits)
        self.selected.append(chosen.gather(1, of_chosen.argsort(dim=1, descending=True)))
        self.measure(choice)

    def measure(self, choice):
        moe = self.config["moe"]
        if moe["groups"] > 1:
            of_groups = choice.unflatten(1, (moe["groups"], -1))
            sums = of_groups.topk(2, dim=2)[0].sum(2)
            self.edge(sums, moe["groups_kept"])
            kept = torch.zeros_like(sums).scatter_(1, sums.topk(moe["groups_kept"], dim=1)[1], 1)
            choice = of_groups.masked_fill(kept[..., None] == 0, -float("inf")).flatten(1)
        self.edge(choice, moe["top_k"])

    def edge(self, values, count):
        ordered = values.sort(dim=1, descending=True)[0]
        self.gap = min(self.gap, (ordered[:, :count] - ordered[:, 1:count + 1]).min().item())


def forward(model, config, tokens, targets):
    """Loss, CE, LB, Z, logits and routing."""
    routing = Routing(config)
    hooks = [m.register_forward_hook(routing.hook) for m in model.modules() if type(m).__name__.endswith("Router")]
    logits = model(tokens).logits
    for hook in hooks:
        hook.remove()
    moe = config["moe"]
    check(len(hooks) == config["model"]["num_layers"] - config["model"]["dense_layers"], f"{len(hooks)} routers")
    ce = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    lb = sum(strand_terms.lb(strand_terms.router_probabilities(l, moe["score"]).unflatten(0, (SEQUENCES, -1)),
                             s.unflatten(0, (SEQUENCES, -1))) for l, s in zip(routing.logits, routing.selected))
    z = sum(strand_terms.z(l) for l in routing.logits)
    return ce + LB_WEIGHT * lb + Z_WEIGHT * z, ce, lb, z, logits, routing


def learning_rate(step):
    """Linear warm-up, then a cosine to min_lr at the last step."""
    o = OPTIMIZER
    if step < o["warmup_steps"]:
        return o["lr"] * (step + 1) / o["warmup_steps"]
    u = torch.tensor((step - (o["warmup_steps"] - 1)) / (STEPS - o["warmup_steps"]), dtype=torch.float64)
    return (o["min_lr"] + (o["lr"] - o["min_lr"]) * (1 + torch.cos(torch.pi * u)) / 2).item()


def trained(model):
    """The parameters of transformers that are parameters of strand: no selection biases, nothing that is constant."""
    return [p for p in model.parameters() if p.requires_grad]


def train(model, config, tokens, targets):
    """Three steps of torch's AdamW in place. Returns the numbers of every step, and the least gap of all choices."""
    parameters = trained(model)
    matrices, vectors = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": OPTIMIZER["weight_decay"]}, {"params": vectors, "weight_decay": 0.0}],
        betas=(OPTIMIZER["beta1"], OPTIMIZER["beta2"]), eps=OPTIMIZER["adam_eps"])
    rows, gap = {"loss": [], "ce": [], "lr": [], "grad_norm": []}, float("inf")
    for step in range(STEPS):
        optimizer.zero_grad()
        loss, ce, *_, routing = forward(model, config, tokens, targets)
        loss.backward()
        gap = min(gap, routing.gap)
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
        for g in gradients:
            g.mul_(min(1.0, OPTIMIZER["clip_norm"] / norm.item()))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        optimizer.step()
        for name, value in (("loss", loss.item()), ("ce", ce.item()), ("lr", learning_rate(step)),
                            ("grad_norm", norm.item())):
            rows[name].append(value)
    return rows, gap


def with_gradients_as_weights(model):
    """A copy whose every weight is the gradient of the weight; zero where there is none."""
    out = copy.deepcopy(model)
    with torch.no_grad():
        for mine, theirs in zip(out.parameters(), model.parameters()):
            mine.copy_(theirs.grad if theirs.grad is not None else torch.zeros_like(theirs))
        for name, buffer in out.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.zero_()
    return out


def case_config(config):
    """The configuration of a reference file, from that of a checkpoint."""
    skipped = {"init_std"}
    out = {key: value for group in ("model", "moe") for key, value in config[group].items() if key not in skipped}
    if out["bias_rate"] > 0:
        out["bias_rate"] = 1e-12  # the bias is there, and training leaves it as it is
    return out | OPTIMIZER | {
        "lb_weight": LB_WEIGHT, "z_weight": Z_WEIGHT, "cp_paths": "token", "cp_sources": "all", "lb_scope": "sequence",
        "micro_batches": [SEQUENCES]}


def training_case(bench, name, model, import_model):
    """Compares training. `import_model(model, short)` writes a directory of the model, imports it, and returns the
    checkpoint. The model is changed."""
    short = "".join(c if c.isalnum() else "_" for c in name)
    checkpoint = import_model(model, short)
    config = yaml.safe_load((checkpoint / "config.yaml").read_text())
    weights = load_file(checkpoint / "model.safetensors")
    model.eval()
    generator = torch.Generator().manual_seed(1)
    for _ in range(200):
        ids = torch.randint(config["model"]["vocab_size"], (SEQUENCES, LENGTH + 1), generator=generator)
        tokens, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
        after = copy.deepcopy(model)
        rows, gap = train(after, config, tokens, targets)
        if gap > SMALLEST_GAP:
            break
    else:
        raise Failure("two hundred batches, and a near tie in every one")
    loss, ce, lb, z, logits, routing = forward(model, config, tokens, targets)
    loss.backward()
    gradients = load_file(import_model(with_gradients_as_weights(model), f"{short}_grad") / "model.safetensors")
    last = load_file(import_model(after, f"{short}_last") / "model.safetensors")
    tensors = {f"param.{n}": t for n, t in weights.items()}
    tensors |= {f"grad.{n}": gradients[n] for n in weights if not n.endswith("router.bias")}
    tensors |= {f"traj.param.{n}": last[n] for n in weights}
    tensors |= {f"traj.{n}": torch.tensor(values) for n, values in rows.items()}
    tensors |= {"input.tokens": tokens.int(), "input.targets": targets.int(), "out.logits": logits.detach(),
                "out.loss": loss.detach().reshape(1), "out.term.ce": ce.detach().reshape(1),
                "out.term.lb": lb.detach().reshape(1), "out.term.z": z.detach().reshape(1),
                "out.router_logits": torch.stack(routing.logits).detach(),
                "out.selected": torch.stack(routing.selected).int(),
                "out.counts": torch.stack([torch.bincount(s.flatten(), minlength=config["moe"]["num_experts"])
                                           for s in routing.selected]).int()}
    path = bench.folder / f"{short}_case.safetensors"
    save_file({n: t.float().contiguous() if t.is_floating_point() else t.contiguous() for n, t in tensors.items()}, path,
              metadata={"format": "pt", "case": name, "isolates": "training in transformers",
                        "config": json.dumps(case_config(config))})
    said = bench.run("verify", path)
    check("1 of 1 files pass" in said, said)
    # The comparison can fail: one gradient, 1 % larger.
    one = next(n for n in tensors if n.startswith("grad.") and n.endswith("experts.1.up_proj.weight"))
    save_file({n: (t * 1.01 if n == one else t).float().contiguous() if t.is_floating_point() else t
               for n, t in tensors.items()}, path,
              metadata={"format": "pt", "case": name, "config": json.dumps(case_config(config))})
    try:
        bench.run("verify", path)
    except Failure:
        return f"{len(gradients)} gradients, {STEPS} steps of AdamW; smallest gap of a choice {gap:.1e}"
    raise Failure(f"{one} is 1 % larger in the file, and strand verify passes")


# The classes whose training is compared: every one of transformers, and those that it does not have.
TRAINED = [name for name in IMPORTS if "," not in name] + ["import qwen2_moe, zero biases and shared experts",
                                                           "import glm4_moe, groups of experts",
                                                           "import deepseek_v2, yarn", "import qwen3_moe, yarn",
                                                           "import deepseek_v2, yarn, latent of queries, tied"]


def train_case(bench, name):
    """Gradients and steps against autograd through the class."""
    if name in BACKBONES:
        model, renamed = backbone_model(name), BACKBONES[name][1]
    else:
        model, renamed = IMPORTS[name](), None
        randomize(model)
    for parameter, t in model.named_parameters():  # what strand does not have, or does not train
        if "mlp.shared_expert" in parameter and "shared_experts" not in parameter or parameter.endswith("bias"):
            t.requires_grad_(False)

    def import_model(model, short):
        folder = bench.folder / f"{short}_model"
        with torch.no_grad():
            for parameter, t in model.named_parameters():
                if "shared_expert_gate" in parameter:
                    t.fill_(1.0)
        model.save_pretrained(folder)
        if renamed:
            renamed(folder, bench.folder / f"{short}_renamed")
            folder = bench.folder / f"{short}_renamed"
        checkpoint = bench.folder / f"{short}_checkpoint" / "step_00000000"
        bench.run("import", folder, "--out", checkpoint)
        return checkpoint

    return training_case(bench, f"train {name}", model, import_model)


def cases(bench):
    for name in [*TRAINED, *BACKBONES]:
        yield f"train {name}", lambda name=name: train_case(bench, name)
