"""The window's tests run without a screen; a warning of Qt fails them, as one of Python does."""

import os

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preferences, crash logs and the sample of a test are not the person's own."""
    home = tmp_path_factory.mktemp("home")
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(home / name.lower()))
    preferences = home / "xdg_config_home" / "dinoviz" / "preferences.toml"
    preferences.parent.mkdir(parents=True)
    preferences.write_text("watches_folder = false\n")  # no process for every window of a test


@pytest.fixture(scope="session")
def qapp_cls() -> type:
    from dinoviz.application import Application

    return Application
