"""Setting up and starting Triton, as far as it goes without one. With one: tests/triton."""

import json
import os
import socket
import sys

import pytest

from hailtime.errors import ServerError
from hailtime.locking import locked
from hailtime.serving.tls import ServerTls
from hailtime.serving.triton import TritonServer, pick_ports
from hailtime.serving.triton_install import (
    PACKAGES,
    Installation,
    find_libpython,
    find_or_install,
    install,
    is_installed,
)


def test_free_ports_are_different_ones():
    ports = pick_ports("127.0.0.1", {"grpc": 0, "http": 0, "metrics": 0})
    assert len(set(ports.values())) == 3


def test_taken_port_is_refused_with_the_way_out():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=rf"http port {port} of 127\.0\.0\.1 must be free: .* --http-port"):
            pick_ports("127.0.0.1", {"http": port})


def test_one_port_for_two_services_is_refused():
    port = pick_ports("127.0.0.1", {"http": 0})["http"]
    with pytest.raises(ServerError, match=f"http port {port}"):
        pick_ports("127.0.0.1", {"grpc": port, "http": port})


def test_impossible_port_is_refused():
    with pytest.raises(ServerError, match="grpc port 70000"):
        pick_ports("127.0.0.1", {"grpc": 70_000})


def test_http_in_clear_is_not_served_beside_grpc_over_tls(tmp_path):
    files = [tmp_path / name for name in ("server.pem", "server.key")]
    for file in files:
        file.touch()
    with pytest.raises(ServerError, match="HTTP knows no TLS"):
        TritonServer(tmp_path, http_port=0, tls=ServerTls(*files))


def test_everything_is_on_loopback_unless_told(tmp_path):
    server = TritonServer(tmp_path, grpc_port=0, http_port=0, metrics_port=0)
    server._ports = pick_ports(server.host, server._asked_ports)
    command = server._command(Installation(tmp_path / "tritonserver", {}, None))
    assert sorted(word for word in command if "-address=" in word) == [
        f"--{name}-address=127.0.0.1" for name in ("grpc", "http", "metrics")
    ]


def test_missing_libpython_names_the_package_that_brings_it(tmp_path):
    with pytest.raises(ServerError, match=r"needs libpython3\.12\.so\.1\.0, .* apt install libpython3\.12"):
        find_libpython("3.12", [tmp_path])


def test_libpython_is_found_in_the_first_folder_that_has_it(tmp_path):
    (tmp_path / "libpython3.11.so.1.0").touch()
    assert find_libpython("3.11", [tmp_path / "none", tmp_path]).parent == tmp_path


def test_server_on_the_path_is_taken_as_it_is(tmp_path, monkeypatch):
    native = tmp_path / "tritonserver"
    native.write_text("#!/bin/sh\n")
    native.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert find_or_install(tmp_path / "home").program == native
    assert not (tmp_path / "home").exists()


def test_half_an_installation_does_not_count(tmp_path):
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/complete.json").write_text("{")
    assert not is_installed(tmp_path)


def test_installation_behind_a_link_counts(tmp_path):
    home = (tmp_path / "home").resolve()
    (home / "venv/bin").mkdir(parents=True)
    (home / "venv/libpython").mkdir()
    for file in ("bin/python", "libpython/libpython3.11.so.1.0"):
        (home / "venv" / file).touch()
    (home / "venv/complete.json").write_text(json.dumps({"packages": PACKAGES, "folder": str(home / "venv")}))
    (tmp_path / "link").symlink_to(home)
    assert is_installed(home)
    assert is_installed(tmp_path / "link")


def test_home_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ServerError, match=r"needs a folder it can write, got .*file/home"):
        install(tmp_path / "file" / "home")


def test_program_that_dies_shows_what_it_said(tmp_path):
    program = tmp_path / "tritonserver"
    program.write_text(f"#!{sys.executable}\nprint('I0101 fine')\nprint('E0101 no such thing')\nraise SystemExit(3)\n")
    program.chmod(0o755)
    server = TritonServer(
        tmp_path, installation=Installation(program, {}, None), grpc_port=0, http_port=0, metrics_port=0
    )
    with pytest.raises(ServerError, match=r"status 3 at its start:\nE0101 no such thing$"):
        server.start()


def test_program_that_never_answers_is_ended(tmp_path):
    program = tmp_path / "tritonserver"
    program.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    program.chmod(0o755)
    server = TritonServer(
        tmp_path, "127.0.0.1", 0, 0, 0, start_timeout_s=0.3, installation=Installation(program, {}, None)
    )
    with pytest.raises(ServerError, match=r"not ready within 0\.3 s"):
        server.start()
    assert not server.is_running


def test_lock_held_by_another_is_told_after_the_time_given(tmp_path):
    with (
        locked(tmp_path / "lock", ServerError),
        pytest.raises(ServerError, match=r"another process has held .*lock for 0\.1 s"),
        locked(tmp_path / "lock", ServerError, timeout_s=0.1),
    ):
        pytest.fail("two hold one lock")
