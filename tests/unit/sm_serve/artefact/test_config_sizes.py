"""Sizes in config.json that the weights cannot have are refused before anything is built."""

import json
import struct

import pytest

from sm_serve.artefact.config_sizes import LAYERS, POSITIONS, WIDTHS, check_sizes, read_shapes
from sm_serve.errors import StartupError


def lay(folder, config, **shapes):
    header = {
        name.replace("__", "."): {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
        for name, shape in shapes.items()
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("name", [*LAYERS, *WIDTHS, *POSITIONS])
@pytest.mark.parametrize("nested", [False, True])
def test_a_size_far_over_the_weights_is_refused_by_name(tmp_path, name, nested):
    lay(tmp_path, {}, model__layers__3__weight=[64, 256], wpe__weight=[512, 64])
    for value in (10_000_000_000, 1e12):
        config = {"text_config": {name: value}} if nested else {name: value}
        with pytest.raises(StartupError, match=rf"config.json: (text_config\.)?{name}={value}"):
            check_sizes(config, tmp_path)
    check_sizes({name: 4, "rope_theta": 10**9, "eos_token_id": 10**9, "x": True}, tmp_path)


def test_layers_are_counted_by_the_tensors_names_and_shared_ones_allowed(tmp_path):
    lay(tmp_path, {}, albert__layers__0__weight=[8, 8])
    assert read_shapes(tmp_path).layers == 1
    check_sizes({"num_hidden_layers": 24}, tmp_path)
    lay(tmp_path, {}, h__299__weight=[8, 8])
    check_sizes({"num_hidden_layers": 300}, tmp_path)
    with pytest.raises(StartupError, match=r"num_hidden_layers=301 .* layers up to number 300"):
        check_sizes({"num_hidden_layers": 301}, tmp_path)


def test_computed_positions_may_be_more_than_any_side(tmp_path):
    lay(tmp_path, {}, model__layers__0__weight=[8, 8])
    check_sizes({"max_position_embeddings": 10_485_760}, tmp_path)
    with pytest.raises(StartupError, match="no more than 16777216 positions"):
        check_sizes({"max_position_embeddings": 2**31}, tmp_path)


def test_positions_of_an_images_parts_are_not_those_of_the_text(tmp_path):
    lay(
        tmp_path,
        {},
        vision_tower__embeddings__position_embedding__weight=[577, 64],
        language_model__embed_tokens__weight=[128_256, 64],
    )
    check_sizes({"text_config": {"max_position_embeddings": 131_072}}, tmp_path)
    lay(tmp_path, {}, text_model__position_embedding__weight=[577, 64])
    with pytest.raises(StartupError, match="max_position_embeddings=131072"):
        check_sizes({"max_position_embeddings": 131_072}, tmp_path)


@pytest.mark.parametrize(
    "damage", [b"", b"123", struct.pack("<Q", 2**60), b"\x02" + 7 * b"\0" + b"[]"]
)
def test_a_damaged_header_is_told(tmp_path, damage):
    (tmp_path / "model.safetensors").write_bytes(damage)
    with pytest.raises(StartupError, match=r"model\.safetensors is damaged"):
        check_sizes({}, tmp_path)


@pytest.mark.parametrize("cut", [1, 5, 16])
def test_weights_cut_off_anywhere_are_told_with_what_is_missing(tmp_path, cut):
    weights = tmp_path / "model.safetensors"
    header = {name: {"dtype": "F32", "shape": [2], "data_offsets": [start, start + 8]}
              for name, start in (("b", 8), ("a", 0))}  # fmt: skip
    text = json.dumps(header).encode()
    whole = struct.pack("<Q", len(text)) + text + bytes(16)
    weights.write_bytes(whole)
    check_sizes({}, tmp_path)
    weights.write_bytes(whole[:-cut])
    with pytest.raises(StartupError, match=rf"damaged \(its last {cut} bytes are missing\)"):
        check_sizes({}, tmp_path)
