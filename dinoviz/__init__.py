"""The window: Qt and numpy only; every computation is asked of an engine process."""
