import ctypes
import os
import stat

import pytest

from rlnorm.trainers.rollout.cpu_engine import build


def fake_compiler(folder, body):
    path = folder / "fake-c++"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_failed_build_is_one_line_and_leaves_no_library(monkeypatch, tmp_path):
    body = 'case "$*" in *-dM*) ;; *) echo "x.cpp:1: error: no such thing" >&2; exit 1;; esac'
    monkeypatch.setenv("CXX", fake_compiler(tmp_path, body))
    monkeypatch.setenv("RLNORM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(build.BuildError, match=r"ended with 1: x.cpp:1: error: no such thing$"):
        build.library()
    assert not list((tmp_path / "cache").glob("*.so"))


def test_a_cache_that_cannot_be_written_is_named(compiler, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RLNORM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(build.BuildError, match="cannot write the cache folder"):
        build.library()


def test_the_library_is_built_once_for_each_source_and_compiler(monkeypatch, tmp_path):
    count = tmp_path / "count"
    body = (
        f'case "$*" in *-dM*) echo "#define X $VERSION";; '
        f'*) echo x >> {count}; while [ "$1" != -o ]; do shift; done; echo lib > "$2";; esac'
    )
    monkeypatch.setenv("CXX", fake_compiler(tmp_path, body))
    monkeypatch.setenv("RLNORM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VERSION", "1")
    first = build.library()
    assert build.library() == first
    assert first.read_text() == "lib\n"
    assert len(count.read_text().split()) == 1
    monkeypatch.setenv("VERSION", "2")
    assert build.library() != first
    assert len(count.read_text().split()) == 2


def test_the_library_exports_its_four_functions(compiler):
    library = ctypes.CDLL(os.fspath(build.library()))
    for name in ("create", "fill", "destroy", "run"):
        assert hasattr(library, f"rlnorm_{name}")
