"""llama.cpp's server for `benchmarks/serving.py --against llama-cpp`: its program, its model file.

    python benchmarks/serving_llama_cpp.py MODEL FILE

writes the model directory as a GGUF file. PyPI has llama.cpp's sources in the sdist of
llama-cpp-python; the server is compiled from them, which takes a quarter of an hour on two cores.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

SOURCES = "llama-cpp-python==0.3.36"
OFF = ("BUILD_SHARED_LIBS", "LLAMA_BUILD_APP", "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_TESTS")
OFF += ("LLAMA_BUILD_UI", "LLAMA_OPENSSL", "LLAMA_USE_PREBUILT_UI")

HEADS = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}


def build(folder: Path) -> Path:
    """The server's program below `folder`, compiled where it is not there yet."""
    server = folder / "build" / "bin" / "llama-server"
    if server.exists():
        return server
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary"]
    subprocess.run([*pip, "llama-cpp-python", "-d", folder, SOURCES], check=True)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as packed:
        packed.extractall(folder)
    source = next(folder.glob("llama_cpp_python-*/vendor/llama.cpp"))
    options = [f"-D{name}=OFF" for name in OFF]
    subprocess.run(["cmake", "-S", source, "-B", folder / "build", *options], check=True)
    jobs = str(os.cpu_count() or 1)
    making = ["cmake", "--build", folder / "build", "-j", jobs, "--target", "llama-server"]
    subprocess.run(making, check=True)
    for each in folder.glob("llama_cpp_python-*"):
        each.unlink() if each.is_file() else shutil.rmtree(each)
    return server


def write_gguf(model: Path, file: Path) -> None:
    """A Llama with a byte-level BPE in float32, as llama.cpp reads it (needs the package gguf)."""
    import gguf
    from safetensors.torch import load_file

    config = json.loads((model / "config.json").read_text())
    writer = gguf.GGUFWriter(file, "llama")
    write_sizes(writer, config)
    write_tokens(writer, json.loads((model / "tokenizer.json").read_text()), config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    weights = {
        name: weight
        for each in model.glob("*.safetensors")
        for name, weight in load_file(each).items()
    }
    weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
    for name, weight in weights.items():
        heads = next((config[key] for part, key in HEADS.items() if part in name), None)
        right = interleave(weight, heads) if heads else weight
        writer.add_tensor(names.get_name(name, (".weight",)), right.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def interleave(weight: Any, heads: int) -> Any:
    """Rows of a query or key: the halves that transformers rotates lie side by side in GGUF."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.transpose(1, 2).reshape(rows, columns)


def write_sizes(writer: Any, config: dict[str, Any]) -> None:
    """The model's sizes."""
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def write_tokens(writer: Any, tokenizer: dict[str, Any], config: dict[str, Any]) -> None:
    """The vocabulary and its merges; GPT-2's way to split is that of a byte-level BPE."""
    import gguf

    vocabulary = tokenizer["model"]["vocab"]
    by_id = {number: token for token, number in vocabulary.items()}
    special = {token["id"] for token in tokenizer["added_tokens"]}
    kinds = {True: gguf.TokenType.CONTROL, False: gguf.TokenType.NORMAL}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    numbers = range(config["vocab_size"])
    writer.add_token_list([by_id.get(number, f"[{number}]") for number in numbers])
    writer.add_token_types([kinds[number in special] for number in numbers])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([each if isinstance(each, str) else " ".join(each) for each in merges])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)


if __name__ == "__main__":
    write_gguf(Path(sys.argv[1]), Path(sys.argv[2]))
