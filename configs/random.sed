# Turns the published checkpoints and the trained results that configurations name into seeded random weights of the same shapes,
# so that they can be tried without a download (./kv smoke does):
#     sed -E -f configs/random.sed configs/openelm/systems-3b.yaml
# Frozen weights are bf16, no larger than the published ones; what is trained becomes float32 whatever its name says.
/^tokenizer:/b
s#models/OpenELM-1_1B#"random:openelm-1.1b:bf16"#g
s#models/OpenELM-(3B|450M|270M)#"random:openelm-\L\1\E:bf16"#g
s#models/SmolLM2-135M#"random:smollm2-135m:bf16"#g
s#runs/openelm/code-(1\.1b|450m|270m)/final/model#"random:openelm-\1:bf16"#g
s#runs/openelm/(code-)?(1\.1b|3b)-lp-(0\.[0-9]+)/final/model#"random:openelm-\2-lp-\3:bf16"#g
s#runs/openelm/(code-)?(1\.1b|3b)-kvp-lp-(0\.[0-9]+)/final/aux#"random:openelm-\2-lp-\3:bf16"#g
s#runs/openelm/(code-)?(1\.1b|3b)-kvp-c-(1\.1b|450m|270m)/final/aux#"random:openelm-\3:bf16"#g
s#runs/smollm2/lp-(0\.[0-9]+)/final/model#"random:smollm2-135m-lp-\1:bf16"#g
s#runs/smollm2/kvp-lp-(0\.[0-9]+)-[a-z]+/final/aux#"random:smollm2-135m-lp-\1:bf16"#g
s#runs/[^ ,}]*/final/predictor#random#g
