# Turns the published checkpoints and the trained results that configurations name into seeded random weights of the same shapes,
# so that they can be tried without a download (./kv smoke does):
#     sed -E -f configs/random.sed configs/openelm/systems-3b.yaml
# Copies name each other where they are copied from: -e 's#: configs/#: look/#' follows those to look/.
# Frozen weights are bf16, no larger than the published ones; what is trained becomes float32 whatever its name says.
/^tokenizer:/b
s#models/OpenELM-1_1B#"random:openelm-1.1b:bf16"#g
s#models/OpenELM-(3B|450M|270M)#"random:openelm-\L\1\E:bf16"#g
s#models/SmolLM2-135M#"random:smollm2-135m:bf16"#g
s#models/Qwen3-(0\.6B|1\.7B)#"random:qwen3-\L\1\E:bf16"#g
s#runs/qwen3/[a-z0-9_]+/final/(model|aux)#"random:qwen3-0.6b:bf16"#g
s#runs/qwen3/ridge_best([0-9])/final/predictor#"random:aux_layers=\1"#g
s#runs/qwen3/head_matched/final/predictor#"random:aux_layers=8:heads=matched"#g
s#runs/qwen3/ours/final/predictor#"random:sources=h+own_h:aux_layers=2:exact_layers=1"#g
s#runs/qwen3/(pop|swiftkv|prefix_[a-z]+)/final/predictor#"random:prefix=14"#g
s#runs/openelm/code-(1\.1b|450m|270m)/final/model#"random:openelm-\1:bf16"#g
s#runs/openelm/(code-)?(1\.1b|3b)-lp-(0\.[0-9]+)/final/model#"random:openelm-\2-lp-\3:bf16"#g
s#runs/openelm/(code-)?(1\.1b|3b)-kvp-lp-(0\.[0-9]+)/final/aux#"random:openelm-\2-lp-\3:bf16"#g
s#runs/openelm/(code-)?(1\.1b|3b)-kvp-c-(1\.1b|450m|270m)(-ours)?/final/aux#"random:openelm-\3:bf16"#g
s#runs/smollm2/lp-(0\.[0-9]+)/final/model#"random:smollm2-135m-lp-\1:bf16"#g
s#runs/smollm2/kvp-lp-(0\.[0-9]+)-[a-z]+/final/aux#"random:smollm2-135m-lp-\1:bf16"#g
s#runs/openelm/[^ ,}]*-kvp-c-[^ ,}]*-ours/final/predictor#"random:sources=h+own_h:aux_layers=2:exact_layers=1"#g
s#runs/smollm2/kvp-lp-[^ ,}]*-ours/final/predictor#"random:sources=h+own_h:exact_layers=1"#g
s#runs/[^ ,}]*/[0-9.b]*-?prefix-([0-9]+)-[a-z]+/final/predictor#"random:prefix=\1"#g
s#runs/[^ ,}]*/final/predictor#random#g
