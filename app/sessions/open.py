"""Opens the store that the settings name."""

from pathlib import Path

from app.sessions.sqlite import LocalStore
from app.sessions.store import SessionStore
from app.settings import Settings

MEMORY = "memory://"
FILE = "sessions"


def open_store(settings: Settings, home: Path | None) -> SessionStore:
    """The store of a service.

    Args:
        settings: of the service.
        home: a folder that its workers share; None for sessions of this process alone.
    """
    limit, idle_s = settings.max_sessions, settings.session_idle_s
    if settings.sessions_url == MEMORY:
        return LocalStore(home / FILE if home else None, limit, idle_s)
    # Loaded only where it is used.
    from app.sessions.redis import RedisStore

    return RedisStore(settings.sessions_url, settings.model, limit, idle_s)
