"""Predictors of this toolkit in Hugging Face's transformers: a predicted cache, made and read there.

    from kvp_transformers import load_model, Predictor, generate

    base = load_model("first/base/final/model")
    aux = load_model("first/kvp/final/aux")            # none for predictors of the base's own first layers
    predictor = Predictor("first/kvp/final/predictor", base, aux)
    ids = generate(base, prompt_ids, 32, predictor)    # greedy, as kvrun

or from a shell, which prints the text (with --ids the token ids, as kvrun --ids does):

    python3 kvp_transformers.py --base DIR [--aux DIR] [--predictor DIR] [-n 32] [--ids] PROMPT

The aux (or the base's first layers) reads all of the prompt but its last token, the maps make the base's keys and values of
what it finds there, the base reads the last token against them and goes on alone (core/README.md, chapters 3, 5 and 9).

It was run with transformers 5.17.0, torch 2.11.0 and safetensors 0.8.0 (Python 3.12, float32 on a CPU), by
tests/programs/kvp_transformers.py: the greedy ids of kvrun for nine predictors and of all goldens.

Reads all that kvtrain writes: maps linear, low_rank, mlp and exact, from any sources, heads matched or not, token tables,
adapted queries, the base's own first layers in place of an aux. Refused by name: what predictor.json or its weights have
besides, RoPE that changes with the length of a text. Fingerprints are not looked at. One text at a time, greedy.

transformers has no OpenELM of its own. Checkpoints of that type are read as qwen3 (llama without q/k norm), whose layers
compute the same; where OpenELM's layers differ in size, each is made anew in its own.
"""

import argparse
import contextlib
import copy
import functools
import json
import math
import os
import re
import sys

import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils import logging

PREDICTOR_VERSION = 2  # the highest that is read


class Refused(Exception):
    """What a file has and this has not."""


def read_json(directory, name):
    with open(os.path.join(directory, name), encoding="utf-8") as file:
        return json.load(file)


# ---- Models ---------------------------------------------------------------------------------------------


def openelm_config(said):
    """OpenELM's config.json in the words of qwen3 or llama; and of every layer what differs."""

    def divisible(width, divisor):
        nearest = max(divisor, int(width + divisor / 2) // divisor * divisor)
        return nearest + divisor if nearest < 0.9 * width else nearest

    sizes = ("num_attention_heads", "num_key_value_heads", "intermediate_size")
    widths = [divisible(m * said["model_dim"], said["ffn_dim_divisor"]) for m in said["ffn_multipliers"]]
    layers = [
        dict(zip(sizes, layer)) for layer in zip(said["num_query_heads"], said["num_kv_heads"], widths, strict=True)
    ]
    shared = {
        "vocab_size": said["vocab_size"],
        "hidden_size": said["model_dim"],
        "head_dim": said["head_dim"],
        "num_hidden_layers": said["num_transformer_layers"],
        "max_position_embeddings": said["max_context_length"],
        "rms_norm_eps": said.get("rms_norm_eps", 1e-6),
        "rope_theta": float(said["rope_freq_constant"]),
        "tie_word_embeddings": said.get("share_input_output_layers", True),
        "bos_token_id": said.get("bos_token_id", 1),
        "eos_token_id": said.get("eos_token_id", 2),
    }
    kind = "qwen3" if said.get("normalize_qk_projections", True) else "llama"
    return AutoConfig.for_model(kind, **shared, **layers[0]), layers


def openelm_weights(weights, layers, head_dim):
    """OpenELM's tensors by the names that llama and its kin have: fused ones are cut apart."""
    outer = {
        "transformer.token_embeddings.weight": "model.embed_tokens.weight",
        "transformer.norm.weight": "model.norm.weight",
        "lm_head.weight": "lm_head.weight",
    }
    inner = {
        "attn_norm": "input_layernorm",
        "attn.q_norm": "self_attn.q_norm",
        "attn.k_norm": "self_attn.k_norm",
        "attn.out_proj": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn.proj_2": "mlp.down_proj",
    }
    found = {new: weights[old] for old, new in outer.items() if old in weights}
    for i, size in enumerate(layers):
        old, new = f"transformer.layers.{i}.", f"model.layers.{i}."
        for part, its in inner.items():
            if old + part + ".weight" in weights:
                found[new + its + ".weight"] = weights[old + part + ".weight"]
        q, kv = size["num_attention_heads"] * head_dim, size["num_key_value_heads"] * head_dim
        qkv = torch.split(weights[old + "attn.qkv_proj.weight"], [q, kv, kv])
        found.update({new + f"self_attn.{name}_proj.weight": w for name, w in zip("qkv", qkv)})
        halves = torch.chunk(weights[old + "ffn.proj_1.weight"], 2)
        found.update({new + f"mlp.{name}_proj.weight": w for name, w in zip(("gate", "up"), halves)})
    return found


def load_openelm(directory, said):
    config, layers = openelm_config(said)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for i, size in enumerate(layers):
        own = copy.deepcopy(model.config)
        own.update(size)
        model.model.layers[i] = type(model.model.layers[i])(own, i)
    weights = {}
    for name in os.listdir(directory):
        if name.endswith(".safetensors"):
            weights.update(load_file(os.path.join(directory, name)))
    found = openelm_weights(weights, layers, config.head_dim)
    model.tie_weights()
    missing, surplus = model.load_state_dict(found, strict=False)
    missing = [m for m in missing if not (config.tie_word_embeddings and m == "lm_head.weight")]
    if missing or surplus:
        raise Refused(f"{directory}: no tensor for {missing}, no place for {surplus}")
    return model


def load_model(directory):
    """As kvrun computes it: in float32."""
    said = read_json(directory, "config.json")
    if said.get("model_type") == "openelm":
        model = load_openelm(directory, said)
    else:
        model = AutoModelForCausalLM.from_pretrained(directory, attn_implementation="eager")
    rope = getattr(model.model.rotary_emb, "rope_type", "default")
    if rope in ("dynamic", "longrope"):
        raise Refused(f"{directory}: RoPE of type {rope}")
    return model.float().eval()


@contextlib.contextmanager
def removing(hooks):
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class Enough(Exception):
    """All that was asked for has been read."""


def read(model, ids, wanted):
    """Of layers of a model, {"k3", "v0", "h12"}: keys before norm and RoPE, values, normed inputs; [tokens, dim] each. Runs
    no further than the last of them."""
    places = {"k": "self_attn.k_proj", "v": "self_attn.v_proj", "h": "input_layernorm"}
    found, hooks = {}, []

    def keep(name, module, args, output):
        found[name] = output[0]
        if len(found) == len(wanted):
            raise Enough

    for name in wanted:
        module = model.model.layers[int(name[1:])].get_submodule(places[name[0]])
        hooks.append(module.register_forward_hook(functools.partial(keep, name)))
    with removing(hooks), contextlib.suppress(Enough):
        if wanted:
            model.model(input_ids=ids, use_cache=False)
    return found


def read_token_parts(base, ids):
    """What of the base depends on the token alone."""
    layer, embedding = base.model.layers[0], base.get_input_embeddings()(ids)[0]
    own_h = layer.input_layernorm(embedding)
    own_k, own_v = layer.self_attn.k_proj(own_h), layer.self_attn.v_proj(own_h)
    return {"embedding": embedding, "own_h": own_h, "own_k": own_k, "own_v": own_v}


def turned(model, keys):
    """Keys [1, heads, tokens, dim] as transformers caches them: turned to their positions."""
    positions = torch.arange(keys.shape[2])[None]
    cos, sin = (x[:, None] for x in model.model.rotary_emb(keys, positions))
    a, b = keys.chunk(2, dim=-1)
    return keys * cos + torch.cat((-b, a), dim=-1) * sin


# ---- Predictors -----------------------------------------------------------------------------------------


def near(j, n, n_aux):
    """The n aux layers nearest to layer j: j, j + 1, j - 1, ..."""
    found = []
    for distance in range(n_aux):
        found += [x for x in dict.fromkeys((j + distance, j - distance)) if 0 <= x < n_aux]
    return found[:n]


def described(said):
    """Version 1 of predictor.json, the paper's predictors, in the words of version 2."""
    for side, source in (("keys", "k"), ("values", "v")):
        said[side] = []
        for j in said["mapping"]:
            layers = near(j, said.get("aux_layers", 1), said["n_aux_layers"])
            kind = "low_rank" if said.get("rank") else "linear"
            said[side].append({"sources": [f"{source}{x}" for x in layers], "map": kind})


class Output:
    """Keys or values of one base layer: a map of what it reads, and the row of a table."""

    def __init__(self, said, name, weights, heads, source_heads):
        self.sources, self.kind, self.table = said["sources"], said["map"], said.get("table")
        if self.kind not in MAPS:
            raise Refused(f"{name}: a map of kind {self.kind}")
        for source in self.sources:
            if not re.fullmatch(r"[kvh]\d+|embedding|own_[kvh]", source):
                raise Refused(f"{name}: reads {source}")
        if said.get("heads") not in (None, "matched"):
            raise Refused(f"{name}: heads {said['heads']}")
        self.n_blocks = math.gcd(heads, *map(source_heads, self.sources)) if "heads" in said else 1
        self.w = {part: weights.pop(f"{name}.{part}") for part in MAPS[self.kind][0]}
        self.rows = weights.pop(f"{name}.table") if self.table == "full" else None
        self.token = weights.pop(f"{name}.token.weight") if isinstance(self.table, int) else None

    def product(self, x, part, bias=None):
        """x · Wᵀ + b; of matched heads every block of x with its own rows of W."""
        blocks, rows = x.chunk(self.n_blocks, dim=-1), self.w[part].chunk(self.n_blocks)
        y = torch.cat([block @ w.T for block, w in zip(blocks, rows)], dim=-1)
        return y if bias is None else y + self.w[bias].reshape(-1)

    def joined(self, taps):
        """Its sources side by side, of matched heads block by block."""
        parts = [taps[source].chunk(self.n_blocks, dim=-1) for source in self.sources]
        return torch.cat([part[b] for b in range(self.n_blocks) for part in parts], dim=-1)

    def __call__(self, taps, ids, embedding):
        y = MAPS[self.kind][1](self, self.joined(taps))
        if self.rows is not None:
            y = y + self.rows[ids[0]]
        if self.token is not None:
            y = y + embedding[ids[0]] @ self.token.T
        return y


def mlp(o, x):
    hidden = functional.silu(o.product(x, "hidden.weight", "hidden.bias"))
    return o.product(x, "weight", "bias") + o.product(hidden, "out.weight")


# The names of a kind's weights, and what it makes of them.
MAPS = {
    "linear": (("weight", "bias"), lambda o, x: o.product(x, "weight", "bias")),
    "low_rank": (
        ("down.weight", "up.weight", "bias"),
        lambda o, x: o.product(o.product(x, "down.weight"), "up.weight", "bias"),
    ),
    "mlp": (("weight", "bias", "hidden.weight", "hidden.bias", "out.weight"), mlp),
    "exact": ((), lambda o, x: x),
}


def kv_heads(model, layer):
    attention = model.model.layers[layer].self_attn
    return attention.k_proj.out_features // attention.head_dim


class Predictor:
    """What predictor.json describes, with its weights, for these two models."""

    def __init__(self, directory, base, aux=None):
        said = read_json(directory, "predictor.json")
        version = said.get("version", 1)
        if not 1 <= version <= PREDICTOR_VERSION:
            raise Refused(f"{directory}: predictor.json of version {version}")
        if version == 1:
            described(said)
        self.prefix = said.get("prefix_layers", 0)
        if (aux is None) != (self.prefix > 0):
            raise Refused(f"{directory}: {'no aux' if self.prefix else 'an aux'} belongs to it")
        self.base, self.aux = base, base if self.prefix else aux
        for model, n in ((self.base, said["n_base_layers"]), (self.aux, said["n_aux_layers"])):
            if len(model.model.layers) != n:
                raise Refused(f"{directory}: made for {n} layers, not {len(model.model.layers)}")
        weights = {k: w.float() for k, w in load_file(os.path.join(directory, "predictor.safetensors")).items()}
        try:
            self.take(said, weights)
            if weights:
                raise Refused(f"{directory}: {sorted(weights)[0]} is nothing that predictor.json speaks of")
            self.cache(torch.zeros((1, 2), dtype=torch.long))
        except KeyError as missing:
            raise Refused(f"{directory}: predictor.safetensors has no {missing}") from None
        except (IndexError, RuntimeError) as misfit:
            raise Refused(f"{directory}: does not fit these models: {misfit}") from None

    def take(self, said, weights):
        def heads(source):
            return kv_heads(self.aux, int(source[1:])) if source[0] in "kv" else 0

        self.embedding = weights.pop("token.embedding", None)
        self.outputs = [[], []]
        for side, name in zip(self.outputs, ("key", "value")):
            for i, entry in enumerate(said[name + "s"]):
                side.append(Output(entry, f"{name}.{i}", weights, kv_heads(self.base, i), heads))
        self.wanted = {s for side in self.outputs for o in side for s in o.sources if s[1:].isdigit()}
        kind = said.get("queries", {}).get("kind")
        if kind not in (None, "full", "lora"):
            raise Refused(f"queries of kind {kind}")
        parts = {"full": ("weight",), "lora": ("down.weight", "up.weight"), None: ()}[kind]
        self.queries = {
            i: [weights.pop(f"query.{i}.{part}") for part in parts]
            for i in range(said["n_base_layers"])
            if parts and f"query.{i}.{parts[0]}" in weights
        }

    @torch.no_grad()
    def cache(self, ids):
        """The base's cache of ids [1, tokens], predicted: keys after its k_norm and RoPE."""
        taps = {**read(self.aux, ids, self.wanted), **read_token_parts(self.base, ids)}
        made = DynamicCache()
        for i, layer in enumerate(self.base.model.layers):
            attention = layer.self_attn
            k, v = (
                side[i](taps, ids, self.embedding).reshape(1, ids.shape[1], -1, attention.head_dim)
                for side in self.outputs
            )
            k = attention.k_norm(k) if hasattr(attention, "k_norm") else k
            made.update(turned(self.base, k.transpose(1, 2)), v.transpose(1, 2), i)
        return made

    def adapt(self):
        """While the hooks that it returns are there, the base asks predicted entries with queries made for them."""

        def replace(weights, module, args, output):
            if len(weights) == 1:
                return functional.linear(args[0], weights[0], module.bias)
            return output + args[0] @ weights[0].T @ weights[1].T

        places = [(self.base.model.layers[i].self_attn.q_proj, w) for i, w in self.queries.items()]
        return [q.register_forward_hook(functools.partial(replace, w)) for q, w in places]


# ---- Answers --------------------------------------------------------------------------------------------


@torch.no_grad()
def generate(base, prompt_ids, n_tokens, predictor=None):
    """Up to n_tokens greedy tokens behind the prompt, without the one that ends the text."""
    ids, found = torch.tensor([prompt_ids]), []
    ends = base.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    cache, hooks = DynamicCache(), []
    if predictor and ids.shape[1] > 1:
        cache, hooks, ids = predictor.cache(ids[:, :-1]), predictor.adapt(), ids[:, -1:]
    with removing(hooks):
        while len(found) < n_tokens:
            logits = base(input_ids=ids, past_key_values=cache, use_cache=True).logits[0, -1]
            token = int(logits.argmax())
            if token in ends:
                break
            found.append(token)
            ids = torch.tensor([[token]])
    return found


def main():
    logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description="Greedy answers of a base with a predicted cache.")
    parser.add_argument("--base", required=True, help="a model's directory")
    parser.add_argument("--aux", help="the auxiliary model's; none for predictors of the base's own layers")
    parser.add_argument("--predictor", help="a predictor's; without one the base reads the prompt itself")
    parser.add_argument("-n", type=int, default=32, help="so many tokens at most (32)")
    parser.add_argument("--ids", action="store_true", help="the prompt is token ids; print ids")
    parser.add_argument("prompt")
    args = parser.parse_args()
    base = load_model(args.base)
    aux = load_model(args.aux) if args.aux else None
    predictor = Predictor(args.predictor, base, aux) if args.predictor else None
    if args.ids:
        print(*generate(base, [int(x) for x in args.prompt.split()], args.n, predictor))
        return
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    print(tokenizer.decode(generate(base, tokenizer(args.prompt).input_ids, args.n, predictor)))


if __name__ == "__main__":
    try:
        main()
    except (Refused, OSError) as error:
        sys.exit(f"kvp_transformers.py: {error}")
