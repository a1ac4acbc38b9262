"""What the images say of themselves, what is in them, how large they are, and that they can be made again."""

import re

import pytest

from bench.engines import ROOT, EngineFailed, Image, build_arguments
from echoserver import __version__
from tests.image.containers import Contained, Variant, layer_size, layers, members

MB = 1_000_000
LARGEST = {"minimal": 5.8 * MB, "scratch": 8.9 * MB}


def test_configuration(variant: Variant) -> None:
    config = variant.image.config
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == (["/echoserver"] if variant.target in ("scratch", "minimal") else ["echoserver"])
    assert not config.get("Cmd")
    assert set(config["ExposedPorts"]) == {"8080/tcp", "8007/tcp", "8007/udp"}
    assert config["StopSignal"] == "SIGTERM"
    assert {"PORT=8080", "ECHOSERVER_HOST=0.0.0.0"} <= set(config["Env"])
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    licences = {
        "slim": "MIT",  # that of its own layer
        "minimal": "MIT AND Apache-2.0 AND PSF-2.0 AND Zlib",
    }.get(variant.target, "MIT AND Apache-2.0 AND BSD-3-Clause AND PSF-2.0 AND Zlib")
    assert (labels["title"], labels["version"], labels["licenses"]) == ("echoserver", __version__, licences)
    said = "UDP and HTTP/1.1;" if variant.target == "minimal" else "UDP, HTTP/1.1 and WebSocket;"
    assert labels["description"].startswith(f"Echo server for TCP, {said}")


def test_it_listens_on_all_addresses(running: Contained) -> None:
    assert [" 0.0.0.0:" in line for line in running.lines if ": listening: " in line] == [True] * 3


def test_one_file_and_nothing_else(static: Variant) -> None:
    with static.engine.exported(static.name) as exported:
        (layer,) = layers(exported)
        (file,) = members(layer)
    assert (file.name.removeprefix("./"), file.isreg(), file.mode & 0o7777) == ("echoserver", True, 0o755)
    assert (file.uid, file.gid) == (0, 0)


# --- sizes ------------------------------------------------------------------------------------------------------------


def sizes(variant: Variant) -> list[int]:
    """Bytes of its layers, uncompressed."""
    with variant.engine.exported(variant.name) as exported:
        return [layer_size(layer) for layer in layers(exported)]


def base(variant: Variant) -> Image:
    """The image that it is built on."""
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE))
    arguments |= build_arguments()
    name = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], arguments[f"{variant.target.upper()}_IMAGE"])
    try:
        return variant.engine.image(name)
    except EngineFailed:  # the builder keeps what it has pulled to itself
        variant.engine("pull", name)
        return variant.engine.image(name)


def test_size(variant: Variant, request: pytest.FixtureRequest) -> None:
    all_layers = sizes(variant)
    if variant.target in LARGEST:
        assert sum(all_layers) <= LARGEST[variant.target]
        return
    below = base(variant).layers
    assert variant.image.layers[: len(below)] == below
    own = sum(all_layers[len(below) :])
    if variant.target == "slim":
        assert own <= 12 * MB
    else:
        assert own <= sum(sizes(request.getfixturevalue("scratch"))) + 0.1 * MB


# --- once more --------------------------------------------------------------------------------------------------------


def test_another_port(slim: Variant) -> None:
    name = "echoserver-test:slim-port"
    # buildah (1.28) takes EXPOSE from its cache, whatever the argument
    slim.engine.build("slim", name, {**build_arguments(), "SERVER_PORT": "9000"}, cache=False)
    try:
        other = slim.engine.image(name).config
        assert set(other["ExposedPorts"]) == {"9000/tcp", "8007/tcp", "8007/udp"}
        assert "PORT=9000" in other["Env"]
    finally:
        slim.engine("rmi", name)


@pytest.mark.timeout(1200, func_only=True)
def test_the_same_sources_give_the_same_layers(slim: Variant) -> None:
    again = "echoserver-test:slim-again"
    slim.engine.build("slim", again, build_arguments(), cache=False)
    try:
        assert slim.engine.image(again).layers == slim.image.layers
    finally:
        slim.engine("rmi", again)
