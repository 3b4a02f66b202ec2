"""Compressed payloads: smaller, the same afterwards, and never more than a bound."""

import gzip

import pytest

from zmqtasks import compression, errors, payload

LONG = b"many words " * 1_000
METHODS = [
    "gzip",
    pytest.param("zstd", marks=pytest.mark.skipif(compression._zstd() is None, reason="backports.zstd is not there")),
]


@pytest.mark.parametrize("method", METHODS)
def test_what_comes_out_is_what_went_in(method):
    pack, unpack = compression.packer(method), compression.unpacker(method)
    assert len(pack(LONG)) < len(LONG) / 10
    for data in (LONG, b"", b"short", bytes(range(256)) * 5):
        assert unpack(pack(data)) == data
        assert len(pack(data)) <= len(data) + 1  # what does not get shorter stays as it is


@pytest.mark.parametrize("method", METHODS)
def test_a_bomb_is_not_unpacked(method, monkeypatch):
    bomb = compression.packer(method)(bytes(1_000_000))
    monkeypatch.setattr(compression, "MAX_SIZE", 100_000)
    with pytest.raises(errors.PayloadError, match="has more than 100,000 bytes, and is left alone"):
        compression.unpacker(method)(bomb)
    with pytest.raises(errors.PayloadTooLarge, match="1,000,000 bytes are to be compressed, of at most 100,000"):
        compression.packer(method)(bytes(1_000_000))
    exact = compression.packer(method)(bytes(100_000))
    assert compression.unpacker(method)(exact) == bytes(100_000)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda data: data[:-9], "its end is missing|cannot be decompressed"),
        (lambda data: data[:1] + b"\xff" * 20, "cannot be decompressed by"),
        (lambda data: b"\7" + data, "this is not compressed by"),
        (lambda data: b"", "this is not compressed by"),
        (lambda data: b"\1", "its end is missing|cannot be decompressed"),
    ],
)
def test_what_was_spoilt_is_told(method, spoil, told):
    with pytest.raises(errors.PayloadError, match=told):
        compression.unpacker(method)(spoil(compression.packer(method)(LONG)))


def test_gzip_is_gzip():
    assert gzip.decompress(compression.packer("gzip")(LONG)[1:]) == LONG


def test_names():
    assert {compression.named(name) for name in ("gzip", "zlib", "application/x-gzip")} == {"gzip"}
    assert compression.named("none") == "none"
    for wrong in ("bzip2", 3):
        with pytest.raises(errors.BadOption, match=f"there is no compression {wrong!r}"):
            compression.named(wrong)


def test_zstd_where_there_is_none(monkeypatch):
    monkeypatch.setattr(compression, "_zstd", lambda: None)
    with pytest.raises(errors.BadOption, match=r"pip install 'zmqtasks\[zstd\]'"):
        compression.named("zstd")


# ------------------------------------------------------------------------------------------------ as part of a codec


@pytest.mark.parametrize("serializer", sorted(payload.ALL_CODECS))
def test_arguments_and_results_have_compressions_of_their_own(serializer):
    text = "x" * 5_000
    codec = payload.joined(serializer, None, "gzip")
    assert codec == f"{serializer}+none+gzip"
    plain, packed = payload.encode_call(codec, (text,), {}, "t"), payload.encode_result(codec, text, "t")
    assert len(plain) > 10 * len(packed)
    assert payload.decoder(codec)(plain)[0][0] == text
    assert payload.decoder(codec, result=True)(packed) == text


def test_codecs_without_compression_have_their_short_names():
    assert payload.joined("json") == payload.joined("json", "none", None) == "json"
    assert payload.encoder("json") is payload.encoder("json+none+none")


def test_an_accept_list_is_about_serializers():
    assert payload.decoder("json+gzip+none", {"json"})
    with pytest.raises(errors.PayloadError, match=r"codec 'pickle\+gzip\+none' is not accepted here"):
        payload.decoder("pickle+gzip+none", {"json"})
    assert payload.decoder("cloudpickle", {"pickle"}) is payload.decoder("pickle", {"cloudpickle"})


@pytest.mark.parametrize(
    "codec", ["json+gzip", "json+gzip+gzip+gzip", "yaml+gzip+none", "json+bzip2+none", "+none+none"]
)
def test_codecs_that_there_are_not(codec):
    with pytest.raises(errors.PayloadError, match=r"no codec is called|there is no compression 'bzip2'"):
        payload.decoder(codec)
    with pytest.raises(errors.PayloadError):
        payload.encoder(codec)


def test_what_is_too_large_to_be_compressed_is_told_as_such(monkeypatch):
    monkeypatch.setattr(compression, "MAX_SIZE", 10_000)
    with pytest.raises(errors.PayloadTooLarge, match=r"^t: .*pass large data by a file"):
        payload.encode_call("json+gzip+gzip", ("x" * 20_000,), {}, "t")
    with pytest.raises(errors.PayloadTooLarge, match=r"^the result of t: "):
        payload.encode_result("json+gzip+gzip", "x" * 20_000, "t")
