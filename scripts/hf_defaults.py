#!/usr/bin/env python3
"""What transformers takes every key of config.json for when the file leaves it out, for the classes that strand knows.

    python scripts/hf_defaults.py > tests/export/transformers_defaults.json

Asks transformers' own configuration classes. Needs scripts/requirements-hf.txt; scripts/hf_parity.py compares the file
with what the installed version says.
"""
import dataclasses
import json

import transformers

CLASSES = ["Mixtral", "Qwen3Moe", "Olmoe", "Qwen2Moe", "Ernie4_5_Moe", "Glm4Moe"]


def plain(value):
    return value is None or isinstance(value, (bool, int, float, str))


def table():
    out = {"transformers": transformers.__version__}
    base = {field.name for field in dataclasses.fields(transformers.PreTrainedConfig)}
    for name in CLASSES:
        cls = getattr(transformers, name + "Config")
        keys = {field.name: field.default for field in dataclasses.fields(cls)
                if field.name not in base and plain(field.default)}
        keys["tie_word_embeddings"] = cls().tie_word_embeddings
        # RoPE's numbers may lie beside or inside rope_parameters; a configuration without either tells the defaults.
        rope = cls().rope_parameters
        keys["rope_theta"] = rope["rope_theta"]
        if "partial_rotary_factor" in rope:
            keys["partial_rotary_factor"] = rope["partial_rotary_factor"]
        out[name + "ForCausalLM"] = {"defaults": dict(sorted(keys.items())), "same_key": dict(cls.attribute_map)}
    return out


if __name__ == "__main__":
    print(json.dumps(table(), indent=1))
