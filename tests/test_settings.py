from __future__ import annotations

import logging

import pytest

import jamie_sc as jsc

LOGGER = logging.getLogger("jamie_sc")


@pytest.fixture(autouse=True)
def _silent():
    yield
    jsc.settings.verbosity = None


def streams():
    return [handler for handler in LOGGER.handlers if isinstance(handler, logging.StreamHandler)]


def test_silent_until_asked(capsys):
    assert jsc.settings.verbosity is None
    assert streams() == []
    LOGGER.info("unheard")
    assert capsys.readouterr() == ("", "")


def test_verbosity_shows_messages_of_its_level_on_stderr(capsys):
    jsc.settings.verbosity = "info"
    LOGGER.debug("too low")
    LOGGER.info("loud")
    assert capsys.readouterr() == ("", "loud\n")
    assert jsc.settings.verbosity == "info"


def test_one_handler_however_often_it_is_set():
    for level in ("info", "debug", "WARNING"):
        jsc.settings.verbosity = level
        assert len(streams()) == 1
        assert jsc.settings.verbosity == level.lower()


def test_none_detaches():
    jsc.settings.verbosity = "debug"
    jsc.settings.verbosity = None
    assert streams() == []
    assert LOGGER.level == logging.NOTSET
    assert LOGGER.propagate


def test_root_logger_is_untouched():
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    jsc.settings.verbosity = "debug"
    assert (root.level, root.handlers) == before


def test_unknown_level_is_an_error_and_changes_nothing():
    jsc.settings.verbosity = "info"
    with pytest.raises(ValueError, match="loud"):
        jsc.settings.verbosity = "loud"
    assert jsc.settings.verbosity == "info"


def test_datasetdir(tmp_path):
    default = jsc.settings.datasetdir
    try:
        jsc.settings.datasetdir = str(tmp_path)
        assert jsc.settings.datasetdir == tmp_path
    finally:
        jsc.settings.datasetdir = None
    assert jsc.settings.datasetdir == default
