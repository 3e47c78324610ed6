#!/usr/bin/env python3
"""PyTorch at the same work as kvbench, on the same shapes: plain operators, written for this comparison alone.

usage: peers.py THREADS, started by kvbench --peers

Standard input, a line of JSON each: a request is made ready and run once, "run" runs it once more. Standard output, a line each:
{"version": ...} at the start, then {"seconds": ...} or {"error": ...}.

    {"do": "prefill" | "decode" | "kvp" | "train" | "train_kvp", "model": {...}, "type": "f32" | "bf16", "n_seq": 8, "n_tokens": 59,
     "aux": {...} with KV prediction, "ours": whether a step has our recipe's losses or the paper's}
"""
import json
import signal
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError as why:
    sys.exit(f"peers.py: {why}")

signal.signal(signal.SIGINT, signal.SIG_IGN)  # kvbench closes standard input when it ends
torch.set_num_threads(int(sys.argv[1]))
TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def norm(x, weight, eps=1e-6):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


class Model:
    """Weights of a shape, uniform, with the standard deviations of a fresh model."""

    def __init__(self, shape, dtype, trained=False):
        self.shape, self.dtype = shape, dtype
        dim, head = shape["model_dim"], shape["head_dim"]
        self.params = []

        def matrix(rows, cols):
            weight = torch.empty(rows, cols, dtype=dtype).uniform_(-1, 1).mul_((3 / cols) ** 0.5)
            self.params.append(weight.requires_grad_(trained))
            return weight

        def ones(n):
            self.params.append(torch.ones(n, dtype=dtype).requires_grad_(trained))
            return self.params[-1]

        self.embed = matrix(shape["vocab_size"], dim)
        self.norm = ones(dim)
        self.layers = []
        for heads, kv_heads, ffn in shape["layers"]:
            self.layers.append(
                dict(attn_norm=ones(dim), q=matrix(heads * head, dim), k=matrix(kv_heads * head, dim), v=matrix(kv_heads * head, dim),
                     q_norm=ones(head), k_norm=ones(head), out=matrix(dim, heads * head), ffn_norm=ones(dim), gate=matrix(ffn, dim),
                     up=matrix(ffn, dim), down=matrix(dim, ffn), heads=heads, kv_heads=kv_heads))
        frequency = shape["theta"] ** (-torch.arange(0, head, 2).float() / head)
        angle = torch.arange(8320).float()[:, None] * frequency
        self.cos, self.sin = angle.cos().to(dtype), angle.sin().to(dtype)

    def turn(self, x, first):
        half = x.shape[-1] // 2
        cos, sin = self.cos[first : first + x.shape[2]], self.sin[first : first + x.shape[2]]
        a, b = x[..., :half], x[..., half:]
        return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)

    def attend(self, layer, q, k, v, first):
        """q [n_seq, heads, n, head] behind `first` tokens; k, v [n_seq, kv_heads, n_keys, head]; before positions are turned in."""
        repeat = layer["heads"] // layer["kv_heads"]
        q, k = self.turn(q, first), self.turn(k, 0)
        n_seq, _, n, head = q.shape
        q = q.reshape(n_seq, layer["kv_heads"], repeat * n, head)
        scores = (q @ k.transpose(-1, -2) * head**-0.5).reshape(n_seq, layer["heads"], n, -1)
        if n > 1:
            seen = torch.ones(n, k.shape[2], dtype=torch.bool).tril(k.shape[2] - n)
            scores = scores.masked_fill(~seen, float("-inf"))
        weights = scores.softmax(-1).reshape(n_seq, layer["kv_heads"], repeat * n, -1)
        y = (weights @ v).reshape(n_seq, layer["heads"], n, head)
        return y.transpose(1, 2).reshape(n_seq, n, -1)

    def heads(self, x):
        return x.reshape(x.shape[0], x.shape[1], -1, self.shape["head_dim"]).transpose(1, 2)

    def keys_values(self, layer, h):
        """Keys before their norm, and values."""
        return self.heads(F.linear(h, layer["k"])), self.heads(F.linear(h, layer["v"]))

    def run(self, ids, cache=None, raw=None, given=None, only_kv=False):
        """Hidden states of ids [n_seq, n]. cache: keys and values of the tokens before, by layer, to which theirs are added.
        raw: a list that gets keys before their norm and values. given: keys and values that stand in for the tokens' own.
        only_kv: the last layer is left at its keys and values."""
        x = F.embedding(ids, self.embed)
        for i, layer in enumerate(self.layers):
            h = norm(x, layer["attn_norm"])
            k, v = self.keys_values(layer, h)
            if raw is not None:
                raw.append((k, v))
            if only_kv and i + 1 == len(self.layers):
                return x
            k, first = norm(k, layer["k_norm"]), 0
            if given is not None:
                k, v = given[i]
            if cache is not None and cache[i] is not None:
                first = cache[i][0].shape[2]
                k, v = torch.cat((cache[i][0], k), 2), torch.cat((cache[i][1], v), 2)
            if cache is not None:
                cache[i] = (k, v)
            q = norm(self.heads(F.linear(h, layer["q"])), layer["q_norm"])
            x = x + F.linear(self.attend(layer, q, k, v, first), layer["out"])
            h = norm(x, layer["ffn_norm"])
            x = x + F.linear(F.silu(F.linear(h, layer["gate"])) * F.linear(h, layer["up"]), layer["down"])
        return x

    def logits(self, x):
        return F.linear(norm(x, self.norm), self.embed)


def merged(x):
    return x.transpose(1, 2).flatten(2)


class Maps:
    """Keys from keys and values from values of one aux layer each, linear; with a row for each token (ours)."""

    def __init__(self, base, aux, trained=False, ours=False):
        self.base, self.params, self.maps = base, [], []
        n_aux = len(aux.layers)
        for i, layer in enumerate(base.layers):
            source = i * n_aux // len(base.layers)
            rows, cols = (m["kv_heads"] * s["head_dim"] for m, s in ((layer, base.shape), (aux.layers[source], aux.shape)))
            pair = []
            for _ in range(2):
                weight = torch.randn(rows, cols, dtype=base.dtype).mul_(cols**-0.5).requires_grad_(trained)
                table = torch.zeros(base.shape["vocab_size"], rows, dtype=base.dtype).requires_grad_(trained) if ours else None
                self.params += [weight] if table is None else [weight, table]
                pair.append((weight, table))
            self.maps.append((source, pair))

    def __call__(self, raw, ids):
        caches = []
        for layer, (source, pair) in zip(self.base.layers, self.maps):
            made = []
            for x, (weight, table) in zip(raw[source], pair):
                y = F.linear(merged(x), weight)
                made.append(self.base.heads(y if table is None else y + F.embedding(ids, table)))
            caches.append((norm(made[0], layer["k_norm"]), made[1]))
        return caches


# ---- The work ------------------------------------------------------------------------------------------


def tokens(request, more=0):
    return torch.randint(0, request["model"]["vocab_size"], (request["n_seq"], request["n_tokens"] + more))


def prefill(model, ids):
    cache = [None] * len(model.layers)
    return model.logits(model.run(ids, cache)[:, -1:]), cache


def do_prefill(request):
    model, ids = Model(request["model"], TYPES[request["type"]]), tokens(request)
    return lambda: prefill(model, ids)


def do_decode(request):
    model, ids = Model(request["model"], TYPES[request["type"]]), tokens(request)
    cache = prefill(model, ids)[1]
    return lambda: model.logits(model.run(ids[:, :1], list(cache)))


def do_kvp(request):
    dtype = TYPES[request["type"]]
    base, aux, ids = Model(request["model"], dtype), Model(request["aux"], dtype), tokens(request)
    maps = Maps(base, aux)

    def first_token():
        raw = []
        aux.run(ids[:, :-1], raw=raw, only_kv=True)
        return base.logits(base.run(ids[:, -1:], maps(raw, ids[:, :-1])))

    return first_token


def stepper(params, loss_of):
    optimizer = torch.optim.AdamW(params, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)

    def step():
        optimizer.zero_grad()
        loss_of().backward()
        torch.nn.utils.clip_grad_norm_(params, 1)
        optimizer.step()

    return step


def cross_entropy(model, hidden, targets):
    return F.cross_entropy(model.logits(hidden).flatten(0, 1), targets.flatten())


def do_train(request):
    model, ids = Model(request["model"], torch.float32, True), tokens(request, 1)
    return stepper(model.params, lambda: cross_entropy(model, model.run(ids[:, :-1]), ids[:, 1:]))


def do_train_kvp(request):
    base, aux = Model(request["model"], torch.float32), Model(request["aux"], torch.float32, True)
    maps, ids, n = Maps(base, aux, True, request["ours"]), tokens(request, 1), len(base.layers)
    x, y = ids[:, :-1], ids[:, 1:]

    def loss():
        raw, true = [], [None] * n
        with torch.no_grad():
            teacher = base.run(x, true)
        hidden = aux.run(x, raw=raw, only_kv=request["ours"])
        predicted = maps(raw, x)
        l1 = sum((p - t).abs().mean() for pair, truth in zip(predicted, true) for p, t in zip(pair, truth))
        student = base.run(x, given=predicted)
        if not request["ours"]:
            return cross_entropy(base, student, y) + cross_entropy(aux, hidden, y) + l1 / n
        with torch.no_grad():
            wanted = base.logits(teacher).log_softmax(-1)
        got = base.logits(student).log_softmax(-1)
        return (wanted.exp() * (wanted - got)).sum(-1).mean() + 2 / n * l1

    return stepper(aux.params + maps.params, loss)


WORK = {"prefill": do_prefill, "decode": do_decode, "kvp": do_kvp, "train": do_train, "train_kvp": do_train_kvp}


def say(**what):
    print(json.dumps(what), flush=True)


def main():
    say(version=f"PyTorch {torch.__version__}")
    work, trains = None, False
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request != "run":
                work = None  # one model at a time
                trains = request["do"].startswith("train")
                with torch.set_grad_enabled(trains):
                    work = WORK[request["do"]](request)
            with torch.set_grad_enabled(trains):
                started = time.perf_counter()
                work()
                say(seconds=time.perf_counter() - started)
        except Exception as why:  # said to kvbench, which goes on without this one
            say(error=f"{type(why).__name__}: {why}".splitlines()[0])


main()
