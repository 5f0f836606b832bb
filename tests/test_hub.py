"""fastnet.hub: published weights fetched once, checked by the digits in their name, loaded without unpickling."""

import hashlib

import pytest

import fastnet
from fastnet import hub, nn
from fastnet.utils import model_zoo


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A published file (address, layer), named by its checksum; what is fetched lands in tmp_path / home."""
    monkeypatch.setenv("FASTNET_HOME", str(tmp_path / "home"))
    fastnet.manual_seed(2)
    layer = nn.Linear(3, 2)
    path = tmp_path / "layer.safetensors"
    fastnet.save(layer.state_dict(), path)
    named = tmp_path / f"layer-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.safetensors"
    path.rename(named)
    return named, layer


def same(state, layer):
    return all((state[k] == v).all() for k, v in layer.state_dict().items())


def test_fetched_once(weights, tmp_path):
    path, layer = weights
    url = path.as_uri()
    assert same(hub.load_state_dict_from_url(url, check_hash=True, progress=False), layer)
    kept = tmp_path / "home" / "hub" / "checkpoints" / path.name
    assert kept.exists()
    path.unlink()
    assert same(model_zoo.load_url(url), layer)
    with pytest.raises(OSError, match="No such file"):
        hub.load_state_dict_from_url(url, model_dir=tmp_path / "elsewhere")


def test_names_and_folders(weights, tmp_path, monkeypatch):
    path, layer = weights
    monkeypatch.setattr(hub, "_directory", None)
    hub.set_dir(tmp_path / "mine")
    assert hub.get_dir() == str(tmp_path / "mine")
    assert same(hub.load_state_dict_from_url(path.as_uri(), file_name="x.safetensors"), layer)
    assert (tmp_path / "mine" / "checkpoints" / "x.safetensors").exists()


def test_wrong_checksums(weights, tmp_path):
    path, _ = weights
    wrong = path.with_name("layer-00000000.safetensors")
    path.rename(wrong)
    with pytest.raises(ValueError, match="expected 00000000"):
        hub.load_state_dict_from_url(wrong.as_uri(), model_dir=tmp_path / "to", check_hash=True)
    plain = wrong.rename(wrong.with_name("layer.safetensors"))
    with pytest.raises(ValueError, match="no checksum"):
        hub.load_state_dict_from_url(plain.as_uri(), check_hash=True)
    assert not list((tmp_path / "to").glob("*"))


def test_files_fetched_by_ones_own_code(weights, tmp_path):
    path, _ = weights
    url, kept = path.as_uri(), tmp_path / "kept" / "file"
    digits = hub.HASH_REGEX.search(hub.urlparse(url).path)[1]
    for _ in range(2):  # the second time over the first
        hub.download_url_to_file(url, kept, digits, progress=False)
        assert kept.read_bytes() == path.read_bytes()
        kept.write_bytes(b"old")
    with pytest.raises(ValueError, match="SHA-256"):
        hub.download_url_to_file(url, kept, "0" * 8)
